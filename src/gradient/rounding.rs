//! What llama.cpp rounds and this module does not: activations, before they meet a weight of fewer bits.

use half::{bf16, f16};

use crate::ffi::tensor_type::TensorType;

/// What becomes of activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rounding {
    None,
    /// To F16.
    Half,
    /// To BF16.
    Brain,
    /// To 8 bits, with a scale for so many at a time.
    Blocks(usize),
}

impl Rounding {
    /// That of activations multiplied by weights of type `ty`.
    pub(super) fn of(ty: TensorType) -> Self {
        match ty {
            TensorType::F32 => Self::None,
            TensorType::F16 => Self::Half,
            TensorType::BF16 => Self::Brain,
            _ => Self::Blocks(ty.block_len().max(1)),
        }
    }

    /// Rounds whole rows.
    pub(super) fn apply(self, x: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Half => x.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
            Self::Brain => x.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
            Self::Blocks(n) => {
                for block in x.chunks_mut(n) {
                    let scale = block.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 127.0;
                    if scale > 0.0 {
                        block.iter_mut().for_each(|x| *x = (*x / scale).round() * scale);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_rounded_to_8_bits() {
        let original: Vec<f32> =
            (0..64).map(|i| (i as f32 * 0.7).sin() * if i < 32 { 1.0 } else { 1e-3 }).collect();
        let mut rounded = original.clone();
        Rounding::of(TensorType::Q8_0).apply(&mut rounded);
        for (block, original) in rounded.chunks(32).zip(original.chunks(32)) {
            let most = original.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let worst = block.iter().zip(original).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
            println!("largest error {:.2e} of {most:.2e}", worst);
            assert!(worst > 0.0 && worst <= most / 254.0 * 1.0001);
        }
        let mut zeros = [0.0; 32];
        Rounding::Blocks(32).apply(&mut zeros);
        assert_eq!(zeros, [0.0; 32]);
    }
}
