//! Toy problems, solved by the real loop.

use llama_svf::expert::Multipliers;
use llama_svf::optimiser::{Schedule, Shape};
use llama_svf::resume::Earlier;
use llama_svf::train::{
    draws, mean, Ended, Estimator, Evolution, Grouping, Options, Parametrisation, RandomReward, State,
};
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::toy::{train, weights, Exact, Toy, PLANTED};

fn options(steps: u64) -> Options {
    let schedule = Schedule { peak: 0.02, warmup: 3, steps, shape: Shape::Cosine };
    Options { prompts: 8, samples: 4, schedule, seed: 11, ..Options::default() }
}

/// Trains `toy` in a folder of its own, to the end.
fn learn(toy: &Toy, options: &Options, ranks: &[usize], estimator: &mut dyn Estimator) -> (Ended, State) {
    let folder = tempfile::tempdir().unwrap();
    println!("seed {}", options.seed);
    train(folder.path(), Earlier::Refuse, options, &weights(ranks), &mut toy.clone(), estimator).unwrap()
}

#[test]
fn a_two_armed_bandit_is_solved() {
    let toy = Toy::bandit();
    let (ended, state) = learn(&toy, &options(120), &[2], &mut Exact::of(&toy));
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    let m = Parametrisation::Multiplier.parameters(&state.raw, &weights(&[2]));
    assert!(toy.success(&m) > 0.95, "{} with {m:?}", toy.success(&m));
    // At the start, a tie, the first arm is taken; the validation saw the change.
    assert_eq!((mean(&state.before), state.best.unwrap().accuracy()), (0.0, 1.0));
}

/// The planted component is found, and it is what the gain is made of.
fn assert_planted(toy: &Toy, m: &Multipliers) {
    let deltas: Vec<_> = m.flat().iter().map(|m| m - 1.0).collect();
    let others = deltas.iter().enumerate().filter(|(i, _)| *i != PLANTED).map(|(_, delta)| delta.abs());
    let largest = others.fold(0.0, f32::max);
    assert!(deltas[PLANTED] > 2.0 * largest, "{deltas:?}");
    assert!(toy.success(m) > 0.75, "{} with {deltas:?}", toy.success(m));
    // The paper's control: the same numbers on other components.
    let mut shuffled = m.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    while shuffled.flat()[PLANTED] == m.flat()[PLANTED] {
        shuffled.flat_mut().shuffle(&mut rng);
    }
    assert!(toy.success(&shuffled) < 0.62, "{shuffled:?}: {}", toy.success(&shuffled));
}

#[test]
fn a_planted_direction_is_found_in_either_parametrisation() {
    let toy = Toy::planted(8);
    let ranks = [2, 6];
    for parametrisation in [Parametrisation::Multiplier, Parametrisation::Reference] {
        let mut options = Options { parametrisation, ..options(150) };
        if parametrisation == Parametrisation::Reference {
            // m moves 21 times less than z at the start.
            options.schedule.peak = 0.05;
        }
        let (ended, state) = learn(&toy, &options, &ranks, &mut Exact::of(&toy));
        assert!(matches!(ended, Ended::Done), "{ended:?}");
        assert_planted(&toy, &parametrisation.parameters(&state.raw, &weights(&ranks)));
    }
}

#[test]
fn reference_mode_learns_from_one_greedy_answer() {
    let toy = Toy::planted(8);
    let mut options = Options { prompts: 64, ..Options::reference() };
    options.schedule.peak = 0.05;
    let (_, state) = learn(&toy, &options, &[2, 6], &mut Exact::of(&toy));
    let best = state.best.unwrap();
    assert!(best.accuracy() > 0.95, "{} before, {} after", mean(&state.before), best.accuracy());
}

/// Rates that would make the model another one in a step; the divergence is that of the distributions, not of a sample.
#[test]
fn a_step_changes_the_answers_by_no_more_than_the_limit() {
    let toy = Toy::planted(100);
    let schedule = Schedule { peak: 0.1, warmup: 0, steps: 1, shape: Shape::Constant };
    let divergence = |step_kl: Option<f64>| {
        let options = Options { prompts: 4, schedule, step_kl, ..options(1) };
        let (_, state) = learn(&toy, &options, &[40, 60], &mut Exact::of(&toy));
        let items = draws::batch(options.seed, 0, toy.items.len(), options.prompts);
        // At m = 1 both answers are as likely.
        let of = |&item: &usize| {
            let p = toy.p(&state.raw, item);
            -0.5 * (4.0 * p * (1.0 - p)).ln()
        };
        items.iter().map(of).sum::<f64>() / items.len() as f64
    };
    let free = divergence(None);
    assert!(free > 0.1 && free.is_finite(), "{free}");
    for limit in [1e-4, 1e-3, 1e-2] {
        let found = divergence(Some(limit));
        assert!(found > 0.7 * limit && found < 1.4 * limit, "{found} with a limit of {limit}");
    }
    assert_eq!(divergence(Some(1e3)), free);
}

#[test]
fn evolution_finds_the_planted_direction_from_rewards_alone() {
    let toy = Toy::planted(8);
    let mut evolution = Evolution { pairs: 16, width: 0.1, grouping: Grouping::Single };
    let (ended, state) = learn(&toy, &options(150), &[2, 6], &mut evolution);
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    assert_planted(&toy, &state.raw);
    // Bands of 1, 2, 4, …: the planted component shares its band of the second weight.
    let mut evolution = Evolution { grouping: Grouping::Bands, ..evolution };
    let (_, state) = learn(&toy, &options(150), &[2, 6], &mut evolution);
    let m = state.raw.flat();
    assert_eq!(m[PLANTED], m[PLANTED + 1], "{m:?}");
    assert!(m[PLANTED] > 1.1, "{m:?}");
}

#[test]
fn a_kl_penalty_ends_where_it_balances_the_reward() {
    let toy = Toy::planted(8);
    for kl in [1.0f32, 2.0] {
        let (_, state) = learn(&toy, &Options { kl, ..options(200) }, &[8], &mut Exact::of(&toy));
        // d/dl of p − λ·KL, with p = sigmoid(l), is p·(1 − p)·(1 − λ·l).
        let expected = 1.0 / (1.0 + (-1.0 / f64::from(kl)).exp());
        let found = toy.success(&state.raw);
        assert!((found - expected).abs() < 0.03, "λ = {kl}: {found}, expected {expected}");
    }
}

#[test]
fn a_coin_teaches_nothing() {
    let toy = Toy::planted(8);
    let options = options(150);
    let folder = tempfile::tempdir().unwrap();
    let mut policy = RandomReward { policy: toy.clone() };
    let mut exact = Exact::of(&toy);
    let (ended, state) =
        train(folder.path(), Earlier::Refuse, &options, &weights(&[8]), &mut policy, &mut exact).unwrap();
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    // The parameters wander, but not to what is right.
    assert_ne!(state.raw.flat(), [1.0; 8]);
    assert!(toy.success(&state.raw) < 0.65, "{}", toy.success(&state.raw));
}
