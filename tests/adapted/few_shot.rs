//! The search over mixtures on a model: a population in one batch scores as one candidate at a time, and the search
//! leaves an expert alone that spoils everything.

use crate::models::{exact, Adapted};
use llama_svf::cem::{Cem, Settings, Ties};
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::embedded;
use llama_svf::engine::scheduler::QUEUE;
use llama_svf::engine::{log_probs, AdapterOptions, Form, GraphOp, Scheduler, Session, SessionOptions};
use llama_svf::eval::Questions;
use llama_svf::expert::{Expert, Mixture};
use llama_svf::few_shot::{FewShot, State};
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::progress::{Interrupt, Silent};
use llama_svf::task::{LoadOptions, Part, Task};

const SEED: u64 = 4;

/// A session with an expert that changes nothing, one that changes something, and one that spoils everything.
fn session(adapted: &Adapted, n_seq: u32, n_slots: u32) -> Session {
    let options = SessionOptions { n_ctx: 256 * n_seq, kv_unified: false, n_threads: 1, ..exact(n_seq) };
    let adapter = AdapterOptions { form: Form::Residual, op: GraphOp::Auto, n_slots };
    let mut session = Session::adapted(&adapted.adapted, &options, &adapter).unwrap();
    let mut bad = Expert::identity("bad", adapted.adapted.sidecar());
    bad.multipliers.values_mut().flatten().for_each(|m| *m = 0.6);
    for expert in [Expert::identity("same", adapted.adapted.sidecar()), adapted.expert("noise", 7, 0.2), bad]
    {
        session.experts_mut().unwrap().insert(expert).unwrap();
    }
    session
}

fn scheduler(adapted: &Adapted, n_seq: u32, n_slots: u32) -> Scheduler {
    Scheduler::new(vec![session(adapted, n_seq, n_slots)], QUEUE).unwrap()
}

#[test]
fn a_population_in_one_batch_scores_as_one_candidate_at_a_time() {
    println!("seed {SEED}");
    let file = embedded::Temporary::new().unwrap();
    let adapted = Adapted::real(file.path(), Selection::Ffn, RankPolicy::Full, TensorType::F32);
    let task = Task::load("math", &LoadOptions::default()).unwrap();
    let shots = &task.items(Part::Train)[..5];
    let questions = Questions::new(adapted.model(), &task, shots).unwrap();
    let few_shot = FewShot::new(&questions, &["same", "noise", "bad"], false).unwrap();
    let cem = Cem::new(3, 1, Settings { seed: SEED, ..Settings::reference() }).unwrap();
    let mixtures: Vec<_> = cem.ask().iter().map(|alphas| few_shot.mixture(alphas).unwrap()).collect();
    assert_eq!(mixtures.len(), 32);
    let interrupt = Interrupt::new();
    let together = few_shot.score(&scheduler(&adapted, 16, 33), &mixtures, Ties::Own, &interrupt).unwrap();
    let single = scheduler(&adapted, 1, 2);
    let mut n_equal = 0;
    for (i, (mixture, together)) in mixtures.iter().zip(&together).enumerate() {
        let alone = few_shot.score(&single, std::slice::from_ref(mixture), Ties::Own, &interrupt).unwrap()[0];
        // A tie between two tokens that rounding breaks can turn one answer.
        assert!((alone.value - together.value).abs() <= 0.2 + 1e-9, "candidate {i}: {alone:?} {together:?}");
        if alone.value == together.value {
            n_equal += 1;
            let ties = (alone.tie.unwrap_or(0.0), together.tie.unwrap_or(0.0));
            assert!((ties.0 - ties.1).abs() <= 3e-3, "candidate {i}: {ties:?}");
        }
    }
    println!("{n_equal} of 32 equal");
    assert!(n_equal >= 29, "{n_equal} of 32");
    let values: Vec<_> = together.iter().map(|score| score.value).collect();
    assert!(values.iter().any(|&value| value != values[0]), "all candidates score alike: {values:?}");
}

#[test]
fn gold_answers_tell_mixtures_apart_that_answer_nothing() {
    println!("seed {SEED}");
    let file = embedded::Temporary::new().unwrap();
    let adapted = Adapted::real(file.path(), Selection::Ffn, RankPolicy::Full, TensorType::F32);
    let task = Task::load("code", &LoadOptions::default()).unwrap();
    let shots = &task.items(Part::Train)[..3];
    let questions = Questions::new(adapted.model(), &task, shots).unwrap();
    let few_shot = FewShot::new(&questions, &["bad", "noise"], false).unwrap();
    let mixtures = ["bad=1.5", "bad=1.2", "bad=1,noise=1"].map(|text| Mixture::parse(text).unwrap());
    let interrupt = Interrupt::new();
    let own = few_shot.score(&scheduler(&adapted, 4, 4), &mixtures, Ties::Own, &interrupt).unwrap();
    assert!(own.iter().all(|score| score.value == 0.0 && score.tie.is_none()), "{own:?}");
    let gold = few_shot.score(&scheduler(&adapted, 4, 4), &mixtures, Ties::Gold, &interrupt).unwrap();
    println!("{gold:?}");
    // The same, token by token.
    let mut alone = session(&adapted, 1, 4);
    for (mixture, score) in mixtures.iter().zip(&gold) {
        let (mut n, mut sum) = (0, 0.0);
        for (item, prompt) in shots.iter().zip(questions.prompts()) {
            alone.clear(0).unwrap();
            alone.assign(0, 0).unwrap();
            alone.set_mixture(1, mixture).unwrap();
            alone.assign(0, 1).unwrap();
            alone.prompt(0, prompt).unwrap();
            for token in adapted.model().tokenize(&item.completion, false, false).unwrap() {
                sum += f64::from(log_probs(alone.logits(0), &[token])[0]);
                n += 1;
                alone.prompt(0, &[token]).unwrap();
            }
        }
        let (expected, found) = (sum / f64::from(n), score.tie.unwrap());
        assert!(score.value == 0.0 && (found - expected).abs() < 3e-3, "{found} {expected}");
    }
    let ties: Vec<_> = gold.iter().map(|score| score.tie.unwrap()).collect();
    assert!(ties[0] != ties[1] && ties[1] != ties[2], "{ties:?}");
    // The better the gold answers, the better the mixture: of two that answer nothing.
    let (best, _) = few_shot.best_single(&scheduler(&adapted, 4, 4), Ties::Gold, &interrupt).unwrap();
    assert_eq!(best, "noise");
}

#[test]
fn the_search_leaves_a_bad_expert_alone_and_gives_groups_of_layers_their_own_weights() {
    println!("seed {SEED}");
    let file = embedded::Temporary::new().unwrap();
    let adapted = Adapted::real(file.path(), Selection::Ffn, RankPolicy::Full, TensorType::F16);
    let task = Task::load("math", &LoadOptions::default()).unwrap();
    let shots = &task.items(Part::Train)[..6];
    let questions = Questions::new(adapted.model(), &task, shots).unwrap();
    let interrupt = Interrupt::new();
    for (names, with_base, n_groups) in
        [(vec!["same", "bad"], false, 1), (vec!["bad"], true, 1), (vec!["same", "bad"], false, 2)]
    {
        let few_shot = FewShot::new(&questions, &names, with_base).unwrap();
        let settings =
            Settings { population: 12, elites: 3, generations: 5, seed: SEED, ..Settings::light() };
        let mut state = State::new(Cem::new(few_shot.n_weights(), n_groups, settings).unwrap());
        let scheduler = scheduler(&adapted, 16, 13);
        let found = few_shot.search(&scheduler, &mut state, &Silent, &interrupt, |_| Ok(())).unwrap();
        println!("{names:?}, base {with_base}: {}, {:?}", found.mixture, found.incumbent.score);
        assert_eq!((found.generations.len(), found.mixture.n_groups()), (5, n_groups));
        // Half of the bad expert, which is where the search begins, answers less.
        let half = if with_base { "bad=0.5" } else { "bad=0.5,same=0.5" };
        let half = [Mixture::parse(half).unwrap(), Mixture::single("bad")];
        let before = few_shot.score(&scheduler, &half, Ties::Own, &interrupt).unwrap();
        assert!(found.incumbent.score.value > before[0].value.max(before[1].value), "{before:?}");
        for (name, alphas) in found.mixture.groups() {
            let mean = alphas.iter().sum::<f32>() / alphas.len() as f32;
            assert!(name != "bad" || mean < 0.5, "{}", found.mixture);
        }
        if !with_base {
            for group in 0..n_groups {
                let sum: f32 = found.mixture.groups().map(|(_, alphas)| alphas[group]).sum();
                assert!((sum - 1.0).abs() < 1e-6, "{sum}");
            }
        }
        // The incumbent never falls, and it is what is deployed.
        let incumbents: Vec<_> =
            found.generations.iter().map(|generation| generation.incumbent.value).collect();
        assert!(incumbents.windows(2).all(|pair| pair[0] <= pair[1]), "{incumbents:?}");
        let again = few_shot.score(&scheduler, &[found.mixture], Ties::Own, &interrupt).unwrap();
        assert!((again[0].value - found.incumbent.score.value).abs() <= 1.0 / 6.0 + 1e-9);
    }
    let few_shot = FewShot::new(&questions, &["bad", "same"], false).unwrap();
    let (best, score) = few_shot.best_single(&scheduler(&adapted, 16, 3), Ties::Own, &interrupt).unwrap();
    assert!(best == "same" && score.value > 0.0, "{best} {score:?}");
    assert!(FewShot::new(&questions, &[], true).is_err());
    let none = Questions::new(adapted.model(), &task, &[]).unwrap();
    assert!(FewShot::new(&none, &["same"], false).is_err());
    // Fewer slots than mixtures: some wait for one.
    let mixtures: Vec<_> = ["bad=0.1", "bad=0.2", "same=1", "noise=0.1", "noise=0.2"]
        .iter()
        .map(|text| Mixture::parse(text).unwrap())
        .collect();
    let scores =
        |n_slots| few_shot.score(&scheduler(&adapted, 4, n_slots), &mixtures, Ties::Own, &interrupt).unwrap();
    for (few, many) in scores(3).iter().zip(scores(6)) {
        assert!((few.value - many.value).abs() <= 1.0 / 6.0 + 1e-9, "{few:?} {many:?}");
    }
}
