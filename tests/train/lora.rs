//! LoRAs that the embedded model learns: what is written is what was trained, and llama.cpp computes it by itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use llama_svf::engine::scheduler::{Generate, Outcome};
use llama_svf::engine::{
    AdaptedModel, LoraModel, Model, ModelWithExperts, Request, Scheduler, Session, SessionOptions,
};
use llama_svf::error::Result;
use llama_svf::eval::Questions;
use llama_svf::expert::{Mixture, Multipliers};
use llama_svf::export::lora;
use llama_svf::ffi::gguf::GgufFile;
use llama_svf::optimiser::{Schedule, Shape};
use llama_svf::progress::{Interrupt, Progress, Silent};
use llama_svf::resume::Earlier;
use llama_svf::task::{LoadOptions, Part, Task};
use llama_svf::train::{
    Ended, EstimatorName, Layers, Objective, Options, Parametrisation, Trained, Training, TrainingOptions,
};
use llama_svf::{decompose, embedded};

const SEED: u64 = 3;
const RANK: usize = 4;

/// The embedded model with its sidecar, in files that go away.
pub struct Embedded {
    pub adapted: Arc<AdaptedModel>,
    _file: embedded::Temporary,
}

impl Embedded {
    pub fn new() -> Self {
        let file = embedded::Temporary::new().unwrap();
        let sidecar = decompose::embedded(&file, 2, &Silent, &Interrupt::new()).unwrap();
        let model = Model::load(file.path(), 0).unwrap();
        Self { adapted: AdaptedModel::new(&model, sidecar).unwrap(), _file: file }
    }
}

/// A few short steps.
fn options() -> TrainingOptions {
    let learning = Options {
        prompts: 8,
        samples: 4,
        parametrisation: Parametrisation::Lora { rank: RANK },
        schedule: Schedule { peak: 1e-2, warmup: 0, steps: 4, shape: Shape::Cosine },
        step_kl: Some(1e-2),
        seed: SEED,
        validate_every: 2,
        validation_items: 16,
        ..Options::default()
    };
    TrainingOptions { batch: 16, n_threads: 2, ..TrainingOptions::new(learning) }
}

fn train<'a>(
    model: &Embedded,
    task: &'a Task,
    output: &Path,
    earlier: Earlier,
    options: TrainingOptions,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Trained<'a>> {
    Training::open(&model.adapted, task, output, earlier, options)?.run(progress, interrupt)
}

pub fn task(name: &str) -> Task {
    Task::load(name, &LoadOptions::default()).unwrap()
}

/// Greedy answers to the first test questions.
fn answers(scheduler: &Scheduler, task: &Task, mixture: &Mixture) -> Vec<String> {
    let items = &task.items(Part::Test)[..24];
    let questions = Questions::new(scheduler.model(), task, items).unwrap();
    let request =
        |prompt: &Vec<i32>| Request::generate(prompt.clone(), mixture.clone(), Generate::greedy(40));
    let mut texts = vec![String::new(); items.len()];
    let requests = questions.prompts().iter().map(request).collect();
    let keep = |index: usize, outcome: Outcome| {
        texts[index] = outcome.completion()?.text;
        Ok(())
    };
    scheduler.complete(requests, &Interrupt::new(), keep).unwrap();
    texts
}

/// A and B of each weight in the file at `path`, as the parameters of `lora`.
fn read(path: &Path, lora: &LoraModel) -> Multipliers {
    let file = GgufFile::open(path).unwrap();
    let values = |name: &str| file.to_f32(file.require_tensor(name).unwrap()).unwrap();
    let pair = |name: &str| [values(&format!("{name}.lora_a")), values(&format!("{name}.lora_b"))].concat();
    lora.weights().iter().map(|weight| pair(&weight.name)).collect()
}

#[test]
fn what_is_written_answers_in_llama_cpp_as_the_policy_did() {
    println!("seed {SEED}");
    let (model, task, folder) = (Embedded::new(), task("math"), tempfile::tempdir().unwrap());
    let output = folder.path().join("math.lora.gguf");
    let mut options = options();
    // Whole steps, so that answers change.
    options.learning.step_kl = None;
    let trained =
        train(&model, &task, &output, Earlier::Refuse, options, &Silent, &Interrupt::new()).unwrap();
    assert!(matches!(trained.ended, Ended::Done) && trained.is_lora(), "{:?}", trained.ended);
    trained.state.raw.check_finite("the LoRA").unwrap();
    assert!(trained.expert("math", "").is_err());
    let mut trained = trained;
    // Whatever validation thought of it: what was trained last is what differs most.
    let last = trained.state.raw.clone();
    trained.state.best.as_mut().unwrap().parameters = last.clone();
    trained.save("math", "sums").unwrap();

    let file = GgufFile::open(&output).unwrap();
    let found = lora::read(&file).unwrap();
    assert_eq!((found.name.as_str(), found.description.as_str(), found.alpha), ("math", "sums", None));
    assert_eq!(file.str("adapter.type").unwrap(), Some("lora"));
    assert_eq!(found.fingerprint.as_deref(), Some(model.adapted.sidecar().fingerprint.as_str()));
    let shapes: Vec<_> = found.weights.iter().map(|w| (w.name.clone(), w.n_in, w.n_out, w.rank)).collect();
    let weights = &model.adapted.sidecar().weights;
    let expected: Vec<_> = weights.iter().map(|w| (w.name.clone(), w.n_in, w.n_out, RANK)).collect();
    assert_eq!(shapes, expected);

    let base = model.adapted.model();
    let lora = LoraModel::new(base, model.adapted.sidecar(), RANK, |_| true).unwrap();
    let parameters = read(&output, &lora);
    assert_eq!(parameters, last);
    let joined = ModelWithExperts::residual(Arc::clone(lora.adapted()), vec![lora.expert("lora")]);
    let options = SessionOptions { n_ctx: 4096, n_threads: 2, n_seq: 8, ..SessionOptions::default() };
    let policy = joined.scheduler_with(1, &options).unwrap();
    lora.write(&parameters);
    let of_policy = answers(&policy, &task, &Mixture::single("lora"));

    let mut session = Session::new(base, &options).unwrap();
    session.set_loras(&[(base.load_lora(&output).unwrap(), 1.0)]).unwrap();
    let stock = Scheduler::new(vec![session], 64).unwrap();
    assert_eq!(answers(&stock, &task, &Mixture::base()), of_policy);
    let of_base = answers(&policy, &task, &Mixture::base());
    let n_changed = of_base.iter().zip(&of_policy).filter(|(base, lora)| base != lora).count();
    println!("{n_changed} of {} answers are not those of the base model", of_base.len());
    assert!(n_changed > 0);
}

/// Raises an interrupt after a step.
struct Stop<'a> {
    interrupt: &'a Interrupt,
}

impl Progress for Stop<'_> {
    fn advance(&self, _: u64) {
        self.interrupt.raise();
    }
}

/// The vectors of a checkpoint, and the file that was written.
fn left(output: &Path) -> (Vec<u8>, Vec<u8>) {
    let bytes = fs::read(output.with_extension("train").join("checkpoint")).unwrap();
    let start = bytes.iter().position(|&byte| byte == b'\n').unwrap();
    (bytes[start..bytes.len() - 32].to_vec(), fs::read(output).unwrap())
}

#[test]
fn a_run_that_was_stopped_ends_bit_by_bit_as_a_whole_one() {
    println!("seed {SEED}");
    let (model, task) = (Embedded::new(), task("code"));
    for objective in [Objective::Reward, Objective::Likelihood] {
        stop_and_go_on(&model, &task, objective);
    }
}

fn stop_and_go_on(model: &Embedded, task: &Task, objective: Objective) {
    let folder = tempfile::tempdir().unwrap();
    let [whole, stopped] = ["whole.lora.gguf", "stopped.lora.gguf"].map(|name| folder.path().join(name));
    let mut options = options();
    options.learning.objective = objective;
    let run = |output: &Path, earlier, progress: &dyn Progress, interrupt: &Interrupt| {
        let trained = train(model, task, output, earlier, options.clone(), progress, interrupt).unwrap();
        trained.save("code", "").unwrap();
        trained.ended
    };
    assert!(matches!(run(&whole, Earlier::Refuse, &Silent, &Interrupt::new()), Ended::Done));
    for _ in 0..3 {
        let interrupt = Interrupt::new();
        let ended = run(&stopped, Earlier::Resume, &Stop { interrupt: &interrupt }, &interrupt);
        assert!(matches!(ended, Ended::Interrupted), "{ended:?}");
    }
    assert!(matches!(run(&stopped, Earlier::Resume, &Silent, &Interrupt::new()), Ended::Done));
    assert!(left(&stopped) == left(&whole), "the runs of {objective:?} differ");
}

/// Of the layers that are left out there is no LoRA.
#[test]
fn layers_that_are_not_trained_have_no_lora() {
    let (model, task, folder) = (Embedded::new(), task("math"), tempfile::tempdir().unwrap());
    let output = folder.path().join("part.lora.gguf");
    let mut options = options();
    options.learning.layers = Some(Layers::parse("1-2").unwrap());
    options.learning.schedule.steps = 1;
    let trained =
        train(&model, &task, &output, Earlier::Refuse, options, &Silent, &Interrupt::new()).unwrap();
    assert!(matches!(trained.ended, Ended::Done), "{:?}", trained.ended);
    trained.save("part", "").unwrap();
    let found = lora::read(&GgufFile::open(&output).unwrap()).unwrap();
    assert!(found
        .weights
        .iter()
        .all(|weight| weight.name.starts_with("blk.1.") || weight.name.starts_with("blk.2.")));
    assert!(found.weights.len() > 2);
    let html = fs::read_to_string(folder.path().join("part.lora.train/report.html")).unwrap();
    for part in ["The LoRA", "components of B·A", "Mean change of A and B", "options.parametrisation"] {
        assert!(html.contains(part), "no '{part}' in the report");
    }
    assert!(!html.contains("NaN"));
}

#[test]
fn what_a_lora_cannot_be_trained_with_is_refused() {
    let (model, task, folder) = (Embedded::new(), task("math"), tempfile::tempdir().unwrap());
    let refusal = |options: TrainingOptions| {
        let output = folder.path().join("no.lora.gguf");
        Training::open(&model.adapted, &task, &output, Earlier::Refuse, options).err().unwrap().to_string()
    };
    let with_rank = |rank| {
        let mut options = options();
        options.learning.parametrisation = Parametrisation::Lora { rank };
        options
    };
    assert!(refusal(with_rank(0)).contains("rank: expected 1 or more"), "{}", refusal(with_rank(0)));
    assert!(refusal(with_rank(100_000)).contains("expected a rank from 1 to"));
    let error = refusal(TrainingOptions { estimator: EstimatorName::Evolution, ..options() });
    assert!(error.contains("too many parameters"), "{error}");
    let error = refusal(TrainingOptions { form: llama_svf::engine::Form::Factored, ..options() });
    assert!(error.contains("beside the base weight"), "{error}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "something was written");
}
