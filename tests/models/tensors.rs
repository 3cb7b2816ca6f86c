//! Tensors of other names, shapes, types and values.

use llama_svf::ffi::tensor_type::TensorType;

use crate::gguf_edit::Gguf;
use crate::harness::{model, try_all, Case, Expect};

#[test]
fn odd_tensors_end_no_process() {
    let Some(model) = model() else { return };
    let mut cases = Vec::new();
    let mut add = |name: String, change: &dyn Fn(&mut Gguf)| {
        let mut file = model.clone();
        change(&mut file);
        cases.push(Case::new(name, move || file.encode()));
    };
    let last = model.tensors.len() - 1;
    for i in (0..12).chain([last - 1, last]) {
        let name = String::from_utf8_lossy(&model.tensors[i].name).into_owned();
        add(format!("without {name}"), &|file| file.tensors[i].name = b"another".to_vec());
        add(format!("{name} turned"), &|file| file.tensors[i].ne.reverse());
        add(format!("{name} flat"), &|file| file.tensors[i].ne = vec![file.tensors[i].ne.iter().product()]);
        add(format!("{name} of 3 dimensions"), &|file| file.tensors[i].ne.push(1));
        add(format!("{name} of 4 dimensions"), &|file| file.tensors[i].ne.insert(0, 1));
        add(format!("{name} halved"), &|file| {
            file.tensors[i].ne[0] /= 2;
            file.tensors[i].ne.resize(2, 1);
            file.tensors[i].ne[1] *= 2;
        });
        add(format!("{name} twice"), &|file| {
            file.tensors[i].name = file.tensors[(i + 1) % last].name.clone()
        });
        // ggml's numbers of types; those of 4 bytes an element fit in place.
        for ty in (0..45).chain([u32::MAX]) {
            add(format!("{name} of type {ty}"), &|file| retype(file, i, ty));
        }
        for (what, x) in
            [("NaN", f32::NAN), ("inf", f32::INFINITY), ("huge", 1e38), ("tiny", 1e-45), ("0", 0.0)]
        {
            add(format!("{name} of {what}"), &|file| {
                let from = file.tensors[i].offset as usize;
                let n = file.tensors[i].ne.iter().product::<u64>() as usize;
                file.data[from..from + 4 * n].copy_from_slice(&x.to_le_bytes().repeat(n));
            });
        }
    }
    add("no tensors".into(), &|file| file.tensors.clear());
    add("one tensor".into(), &|file| file.tensors.truncate(1));
    try_all(&cases, &Expect { answered: 0.1, refused: 0.1, assertions: false });
}

/// Gives tensor `i` the type `ty`, with data of its size that is not all zero, and moves what follows.
fn retype(file: &mut Gguf, i: usize, ty: u32) {
    let known = TensorType::from_id(ty);
    let ne = file.tensors[i].ne.clone();
    let bytes = known
        .and_then(|known| known.row_bytes(ne[0] as usize))
        .map(|row| row * ne[1..].iter().product::<u64>() as usize);
    file.tensors[i].ty = ty;
    let Some(bytes) = bytes else { return };
    let begin = file.tensors[i].offset as usize;
    let end = file.tensors.get(i + 1).map_or(file.data.len(), |next| next.offset as usize);
    let new: Vec<u8> = (0..bytes.next_multiple_of(32)).map(|at| (at % 7) as u8).collect();
    let moved = new.len() as i64 - (end - begin) as i64;
    file.data.splice(begin..end, new);
    file.tensors[i + 1..]
        .iter_mut()
        .for_each(|tensor| tensor.offset = tensor.offset.wrapping_add_signed(moved));
    file.tensors[i].offset = begin as u64;
}
