//! An expert on another model of the same layout, and the refusals of all others.

use crate::models::{logits, tokens, use_expert, Adapted, RandomModel};
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::{Form, GraphOp};
use llama_svf::expert::transfer::Order;
use llama_svf::expert::Expert;
use llama_svf::ffi::tensor_type::TensorType;

fn adapted(model: RandomModel, tensors: &str, rank: &str) -> Adapted {
    let rank = RankPolicy::parse(rank).unwrap();
    Adapted::random(&model, Selection::parse(tensors).unwrap(), rank, TensorType::F32)
}

#[test]
fn multipliers_are_carried_over_in_order_or_shuffled() {
    let from = adapted(RandomModel::tiny(), "ffn", "full");
    let to = adapted(RandomModel { seed: 2, ..RandomModel::tiny() }, "all", "full");
    let expert = from.expert("maths", 3, 0.5);
    let sidecar = to.adapted.sidecar();
    assert!(expert.check(sidecar).is_err(), "as it is it belongs to the other model");
    let kept = expert.transferred(sidecar, Order::Kept).unwrap();
    kept.check(sidecar).unwrap();
    assert_eq!((&kept.multipliers, &kept.name), (&expert.multipliers, &expert.name));
    assert!(kept.description.contains(expert.fingerprint.short()) && kept.training.is_none());

    let shuffled = expert.transferred(sidecar, Order::Shuffled(1)).unwrap();
    assert_eq!(shuffled, expert.transferred(sidecar, Order::Shuffled(1)).unwrap());
    assert_ne!(shuffled.multipliers, expert.transferred(sidecar, Order::Shuffled(2)).unwrap().multipliers);
    for (name, m) in &expert.multipliers {
        let mut pair = [m.clone(), shuffled.multipliers[name].clone()];
        assert_ne!(pair[0], pair[1], "{name}");
        pair.iter_mut().for_each(|m| m.sort_by(f32::total_cmp));
        assert_eq!(pair[0], pair[1], "{name}: the same numbers");
    }
    // The file does what the value does, and the model runs with it.
    kept.save(to.path("kept.expert.gguf")).unwrap();
    assert_eq!(Expert::open(to.path("kept.expert.gguf")).unwrap(), kept);
    let talk = tokens(3, 9);
    let mut session = to.session(Form::Residual, GraphOp::Auto, 1, 2);
    use_expert(&mut session, kept, 1, 0);
    assert_ne!(logits(&mut session, 0, &talk), logits(&mut to.base(), 0, &talk));
    let mut wordy = expert.clone();
    wordy.description = "ä".repeat(512);
    wordy
        .transferred(sidecar, Order::Shuffled(u64::MAX))
        .unwrap()
        .save(to.path("wordy.expert.gguf"))
        .unwrap();
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let from = adapted(RandomModel::tiny(), "ffn", "full");
    let expert = from.expert("maths", 3, 0.5);
    let tiny = || RandomModel { seed: 2, ..RandomModel::tiny() };
    for (name, model, tensors, rank, fragments) in [
        ("layers", RandomModel { layers: 3, ..tiny() }, "ffn", "full", ["a model with 2 layers", "found 3"]),
        (
            "fewer layers",
            RandomModel { layers: 1, ..tiny() },
            "ffn",
            "full",
            ["a model with 2 layers", "found 1"],
        ),
        (
            "width",
            RandomModel { width: 32, ..tiny() },
            "ffn",
            "full",
            ["expected 64 components of blk.0", "found 32"],
        ),
        ("rank", tiny(), "ffn", "8", ["expected 64 components of blk.0", "(`rank`)"]),
        ("tensors", tiny(), "attn", "full", ["has no weight blk.0.ffn", "`tensors`"]),
    ] {
        let to = adapted(model, tensors, rank);
        let error = expert.transferred(to.adapted.sidecar(), Order::Kept).expect_err(name).to_string();
        assert!(fragments.iter().all(|fragment| error.contains(fragment)), "{name}: {error}");
        assert!(error.starts_with("expert maths: "), "{name}: {error}");
    }
}
