//! What experts cost: the base model, the composed and the fused op, and llama.cpp's own LoRA at the same
//! rank on the same weights, side by side in one process.
//!
//! All of them work on one loaded model and take turns, so that whatever else happens on the machine hits
//! them alike; every figure is a median over the rounds. One random expert (m = 1 + 0.1·N(0, 1)) is used
//! throughout, and the LoRA adapters are made from it (`lora`), so that all variants but the base compute
//! the same function; `Agreement` says how closely.

mod bound;
mod expert;
mod lora;
mod measure;

use std::sync::Arc;

use crate::engine::Form;
use crate::engine::{AdaptedModel, AdapterOptions, GraphOp, Lora, Model, Placement, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::expert::{Expert, Mixture};
use crate::progress::{Interrupt, Progress};
use crate::sidecar::Sidecar;
use crate::temporary;

pub use bound::Bounds;
pub use measure::{Agreement, Batch8, Comparison, Switching};

/// Sequences of the batch figures.
pub const N_SEQUENCES: u32 = 8;

/// How to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Turns of every variant in the decode and batch figures; prefill takes a third as many.
    pub rounds: usize,
    /// Threads.
    pub n_threads: u32,
    /// How the experts' layers run. LoRA stays beside the weights.
    pub form: Form,
    /// Seed of the random experts.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Adapted weights.
    pub n_weights: usize,
    /// Where they run, and how, where the fused op was asked for.
    pub placements: Vec<Placement>,
    /// Whether the factors are not all F16, so that the LoRA of the factors' type is one of its own.
    pub has_other_type: bool,
    /// Lower bounds of the time relative to the base model's.
    pub bounds: Bounds,
    /// One token after a prompt of 64.
    pub decode: Comparison,
    /// A prompt of 512.
    pub prefill: Comparison,
    /// Eight sequences decoded together.
    pub batch8: Batch8,
    /// Another expert for a sequence.
    pub switching: Switching,
    /// How closely the variants agree.
    pub agreement: Agreement,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Base,
    Composed,
    Fused,
    LoraF16,
    /// LoRA whose matrices have the types of the sidecar's factors.
    LoraSameType,
}

/// Everything the measurements share.
pub(crate) struct Bench<'a> {
    options: &'a BenchOptions,
    adapted: Arc<AdaptedModel>,
    experts: Vec<Expert>,
    /// Two copies each, so that switching between them reads other memory.
    lora_f16: [Arc<Lora>; 2],
    lora_same_type: Option<[Arc<Lora>; 2]>,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
}

/// Measures `sidecar` on `model`. Progress counts turns.
///
/// # Errors
/// A sidecar of another model, no memory for the sessions, no space for the temporary LoRA adapter, or an
/// interrupt.
pub fn run(
    model: &Arc<Model>,
    sidecar: Sidecar,
    options: &BenchOptions,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report> {
    if options.rounds == 0 {
        return Err(Error::expected("1 or more", 0).setting("rounds"));
    }
    let bounds = Bounds::new(model.file(), &sidecar, options.form)?;
    let adapted = AdaptedModel::new(model, sidecar)?;
    let sidecar = adapted.sidecar();
    let experts: Vec<_> =
        (1..=N_SEQUENCES).map(|n| expert::random(&expert_name(n), sidecar, options.seed, n)).collect();
    let has_other_type = lora::has_other_type(sidecar);
    let load = |f16| -> Result<[Arc<Lora>; 2]> {
        let file = lora::write(sidecar, &experts[0], f16)?;
        let _listed = temporary::Listed::new(&file);
        Ok([model.load_lora(&file)?, model.load_lora(&file)?])
    };
    let bench = Bench {
        options,
        lora_f16: load(true)?,
        lora_same_type: has_other_type.then(|| load(false)).transpose()?,
        experts,
        adapted: Arc::clone(&adapted),
        progress,
        interrupt,
    };
    let measured = bench.measure();
    progress.finish();
    let (decode, prefill, batch8, switching, agreement, placements) = measured?;
    Ok(Report {
        n_weights: sidecar.weights.len(),
        placements,
        has_other_type,
        bounds,
        decode,
        prefill,
        batch8,
        switching,
        agreement,
    })
}

fn expert_name(n: u32) -> String {
    format!("random-{n}")
}

impl Bench<'_> {
    fn model(&self) -> &Arc<Model> {
        self.adapted.model()
    }

    fn variants(&self) -> Vec<Variant> {
        let mut variants = vec![Variant::Base, Variant::Composed, Variant::Fused, Variant::LoraF16];
        if self.lora_same_type.is_some() {
            variants.push(Variant::LoraSameType);
        }
        variants
    }

    /// A session in which every sequence runs `variant` with the first expert. Slot n holds expert n.
    fn session(&self, variant: Variant) -> Result<Session> {
        let options = SessionOptions {
            n_ctx: measure::CONTEXT,
            n_batch: measure::PREFILL as u32,
            n_ubatch: measure::PREFILL as u32,
            n_threads: self.options.n_threads,
            n_seq: N_SEQUENCES,
            ..SessionOptions::default()
        };
        let op = match variant {
            Variant::Composed => GraphOp::Composed,
            // Where a device has no kernel, the report says so.
            Variant::Fused => GraphOp::Auto,
            Variant::Base | Variant::LoraF16 | Variant::LoraSameType => {
                let mut session = Session::new(self.model(), &options)?;
                if let Some([lora, _]) = self.loras(variant) {
                    session.set_loras(&[(Arc::clone(lora), 1.0)])?;
                }
                return Ok(session);
            }
        };
        let adapter = AdapterOptions { form: self.options.form, op, n_slots: N_SEQUENCES + 1 };
        let mut session = Session::adapted(&self.adapted, &options, &adapter)?;
        for (expert, slot) in self.experts.iter().zip(1..) {
            session.experts_mut()?.insert(expert.clone())?;
            session.set_mixture(slot, &Mixture::single(expert.name.as_str()))?;
        }
        for sequence in 0..N_SEQUENCES {
            session.assign(sequence, 1)?;
        }
        Ok(session)
    }

    fn loras(&self, variant: Variant) -> Option<&[Arc<Lora>; 2]> {
        match variant {
            Variant::LoraF16 => Some(&self.lora_f16),
            Variant::LoraSameType => self.lora_same_type.as_ref(),
            Variant::Base | Variant::Composed | Variant::Fused => None,
        }
    }
}
