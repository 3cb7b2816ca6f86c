//! What the embedded model learns from gold answers alone, as an expert and as a LoRA.

use llama_svf::engine::scheduler::Generate;
use llama_svf::engine::{Form, LoraModel, Request, Scheduler, SessionOptions};
use llama_svf::eval::Questions;
use llama_svf::expert::Mixture;
use llama_svf::optimiser::{Schedule, Shape};
use llama_svf::progress::{Interrupt, Silent};
use llama_svf::resume::Earlier;
use llama_svf::task::{Part, Task};
use llama_svf::train::{
    mean, Ended, EstimatorName, ModelOptions, ModelPolicy, Objective, Options, Parametrisation, Policy,
    RewardName, Trained, Training, TrainingOptions, Weight,
};

use crate::lora::{task, Embedded};
use crate::toy::{self, weights, Exact, Toy};

const SEED: u64 = 9;

fn options(parametrisation: Parametrisation) -> TrainingOptions {
    let learning = Options {
        parametrisation,
        prompts: 16,
        schedule: Schedule { peak: 1e-2, warmup: 2, steps: 16, shape: Shape::Cosine },
        seed: SEED,
        validate_every: 16,
        validation_items: 80,
        ..Options::likelihood()
    };
    TrainingOptions { batch: 16, n_threads: 2, ..TrainingOptions::new(learning) }
}

/// −ln p per token of the gold answers to some train items, before and after, as llama.cpp computes them.
fn of_gold(model: &Embedded, task: &Task, trained: &Trained) -> [f64; 2] {
    let options = ModelOptions {
        form: Form::Residual,
        batch: 16,
        n_threads: 2,
        max_candidates: 2,
        validation_items: 1,
        gold: true,
    };
    let (parametrisation, sidecar) = (trained.options.parametrisation, model.adapted.sidecar());
    let weights: Vec<_> = sidecar.weights.iter().map(Weight::from).collect();
    let initial = parametrisation.initial(&weights, trained.options.seed);
    let mut policy = match parametrisation {
        Parametrisation::Lora { rank } => {
            let lora = LoraModel::new(model.adapted.model(), sidecar, rank, |_| true).unwrap();
            ModelPolicy::of_lora(&lora, task, &options).unwrap()
        }
        _ => ModelPolicy::new(&model.adapted, task, &options).unwrap(),
    };
    let gold: Vec<_> = (0..64).map(|item| (item, policy.gold(item).unwrap().to_vec())).collect();
    let gold: Vec<_> = gold.iter().map(|(item, tokens)| (*item, &tokens[..])).collect();
    let best = &trained.state.best.as_ref().unwrap().parameters;
    let mut loss = |parameters| {
        let log_probs = policy.log_probs(parameters, &gold, &Interrupt::new()).unwrap();
        assert!(log_probs.iter().all(|p| p.is_finite()));
        -log_probs.iter().sum::<f64>() / log_probs.len() as f64
    };
    [loss(&initial), loss(best)]
}

#[test]
fn gold_answers_become_likelier_and_the_model_better() {
    let (model, task) = (Embedded::new(), task("math"));
    for parametrisation in [Parametrisation::Multiplier, Parametrisation::Lora { rank: 8 }] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("math.gguf");
        let options = options(parametrisation);
        let training = Training::open(&model.adapted, &task, &output, Earlier::Refuse, options).unwrap();
        let trained = training.run(&Silent, &Interrupt::new()).unwrap();
        assert!(matches!(trained.ended, Ended::Done), "{:?}", trained.ended);
        let losses = of_gold(&model, &task, &trained);
        let (before, after) = (mean(&trained.state.before), trained.state.best.as_ref().unwrap().accuracy());
        println!("{parametrisation:?}, seed {SEED}: {losses:?} nats per token, {before} to {after}");
        // What the first step saw, before anything was learnt, is of this size too.
        let first = trained.steps().next().unwrap().loss.unwrap();
        assert!((0.5..2.0).contains(&(first / losses[0])), "{first} {losses:?}");
        assert!(losses[1] < 0.75 * losses[0], "{losses:?}");
        assert!(after > before + 0.15, "{before} {after}");
        for step in trained.steps() {
            assert!(
                step.reward.is_none() && step.informative.is_none() && step.cut.is_none() && step.tokens > 16
            );
        }
        trained.save("math", "").unwrap();
        let html = std::fs::read_to_string(trained.folder.report()).unwrap();
        assert!(html.contains("Train loss") && html.contains("tokens of gold answers"));
        assert!(!html.contains("Train reward") && !html.contains("NaN"));
    }
}

/// So that the model learns to end its answers where gold ones end.
#[test]
fn gold_answers_end_as_answers_do() {
    let (model, task) = (Embedded::new(), task("math"));
    let base = model.adapted.model();
    let options = SessionOptions { n_threads: 2, n_ctx: 512, ..SessionOptions::default() };
    let scheduler = Scheduler::base(base, 1, &options).unwrap();
    let questions = Questions::new(base, &task, &task.items(Part::Test)[..1]).unwrap();
    let request = Request::generate(questions.prompts()[0].clone(), Mixture::base(), Generate::greedy(100));
    let answer = scheduler.submit(request).unwrap().completion().unwrap();
    assert_eq!(base.end_of_answer(true).unwrap(), answer.tokens.last().copied());
    assert!(base.end_of_answer(false).unwrap().is_none_or(|end| base.is_end(end)));
}

#[test]
fn what_cannot_be_learnt_so_is_refused() {
    let (model, task, folder) = (Embedded::new(), task("math"), tempfile::tempdir().unwrap());
    let of_svf = || options(Parametrisation::Multiplier);
    for (options, fragments) in [
        (
            TrainingOptions { estimator: EstimatorName::Evolution, ..of_svf() },
            ["objective: ", "rewards alone"],
        ),
        (TrainingOptions { reward: RewardName::Random, ..of_svf() }, ["reward: ", "without rewards"]),
    ] {
        let output = folder.path().join("no.gguf");
        let error = Training::open(&model.adapted, &task, &output, Earlier::Refuse, options).err().unwrap();
        fragments.iter().for_each(|part| assert!(error.to_string().contains(part), "no '{part}' in {error}"));
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "something was written");
}

/// A policy that knows no gold answers ends the run with an error, and with the state before.
#[test]
fn without_gold_answers_nothing_is_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { objective: Objective::Likelihood, ..Options::default() };
    let (mut toy, weights) = (Toy::bandit(), weights(&[2]));
    let mut exact = Exact::of(&toy);
    let (ended, state) =
        toy::train(folder.path(), Earlier::Refuse, &options, &weights, &mut toy, &mut exact).unwrap();
    let Ended::Failed(error) = ended else { panic!("{ended:?}") };
    assert!(error.to_string().contains("objective: no gold answers"), "{error}");
    assert_eq!(state.step, 0);
}
