//! Runs that are interrupted, killed, or go wrong, and what is left of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use llama_svf::expert::Multipliers;
use llama_svf::optimiser::{Schedule, Shape};
use llama_svf::resume::Earlier;
use llama_svf::train::log::{read, Line};
use llama_svf::train::{Ended, Estimator, Folder, Options, State};

use crate::toy::{settings, train, weights, Exact, Toy};

const RANKS: [usize; 2] = [2, 6];

fn options() -> Options {
    let schedule = Schedule { peak: 0.02, warmup: 3, steps: 40, shape: Shape::Cosine };
    Options { prompts: 8, samples: 4, schedule, seed: 7, validate_every: 5, ..Options::default() }
}

fn folder(path: &Path) -> Folder {
    Folder::of(&path.join("toy.expert.gguf"))
}

/// All but the time it took.
fn timeless(mut state: State) -> State {
    state.seconds = 0.0;
    state
}

/// The log without times: its first line, and the others.
fn events(path: &Path) -> (String, Vec<Line>) {
    let first = fs::read_to_string(folder(path).log()).unwrap().lines().next().unwrap().to_owned();
    let mut lines = read(&folder(path).log()).unwrap();
    for line in &mut lines {
        match line {
            Line::Step(line) => (line.seconds, line.gradient) = (0.0, 0.0),
            Line::Validation(line) => line.seconds = 0.0,
        }
    }
    (first, lines)
}

fn go_on(path: &Path, toy: &mut Toy) -> (Ended, State) {
    let mut exact = Exact::of(toy);
    train(path, Earlier::Resume, &options(), &weights(&RANKS), toy, &mut exact).unwrap()
}

/// What an uninterrupted run comes to.
fn whole() -> (State, (String, Vec<Line>)) {
    let path = tempfile::tempdir().unwrap();
    let (ended, state) = go_on(path.path(), &mut Toy::planted(8));
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    (timeless(state), events(path.path()))
}

#[test]
fn an_interrupted_run_ends_as_a_whole_one_bit_by_bit() {
    let (expected, expected_events) = whole();
    // One interrupt at each of the first calls, validations among them, and one run interrupted again and again.
    for patience in (0..9).map(|n| vec![n, usize::MAX]).chain([vec![3, 0, 7, 1, 5, usize::MAX]]) {
        let path = tempfile::tempdir().unwrap();
        let mut last = None;
        for &patience in &patience {
            let mut toy = Toy { patience, ..Toy::planted(8) };
            last = Some(go_on(path.path(), &mut toy));
            let (ended, state) = last.as_ref().unwrap();
            let is_last = patience == usize::MAX;
            assert!(
                matches!((ended, is_last), (Ended::Interrupted, false) | (Ended::Done, true)),
                "{ended:?}"
            );
            assert_eq!(state.step == 40, is_last);
        }
        assert_eq!(timeless(last.unwrap().1), expected, "{patience:?}");
        assert_eq!(events(path.path()), expected_events, "{patience:?}");
    }
}

/// The folder in which the process that is to be killed works.
const FOLDER: &str = "LLAMA_SVF_TEST_KILLED";

#[test]
#[ignore = "the process that `a_killed_run_ends_as_a_whole_one` kills"]
fn victim() {
    let Some(path) = std::env::var_os(FOLDER) else { return };
    let mut toy = Toy { delay: Duration::from_millis(3), ..Toy::planted(8) };
    go_on(Path::new(&path), &mut toy);
}

#[test]
fn a_killed_run_ends_as_a_whole_one() {
    let (expected, expected_events) = whole();
    let path = tempfile::tempdir().unwrap();
    let lines = || fs::read_to_string(folder(path.path()).log()).map_or(0, |text| text.lines().count());
    let mut reached = 0;
    // Killed whenever so many lines are there, which falls anywhere between a line and its checkpoint.
    for (n_lines, delay) in [(2, 0), (6, 1), (12, 0), (19, 2), (27, 3), (36, 1)] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stops::victim", "--ignored"])
            .env(FOLDER, path.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while lines() < n_lines && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        // Not more is lost than the step that was at work.
        let state = saved(path.path());
        let logged = events(path.path()).1.iter().filter(|line| matches!(line, Line::Step(_))).count() as u64;
        let step = state.map_or(0, |state| state.step);
        assert!(step + 1 >= logged && step >= reached, "{step} of {logged} steps, {reached} before");
        reached = step;
    }
    assert!(reached > 20, "only {reached} steps were done by those killed");
    let (ended, state) = go_on(path.path(), &mut Toy::planted(8));
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    assert_eq!(timeless(state), expected);
    assert_eq!(events(path.path()), expected_events);
}

/// The state on the disk.
fn saved(path: &Path) -> Option<State> {
    let (options, file) = (options(), folder(path).checkpoint());
    let load = || llama_svf::train::checkpoint::load(&file, &options, &settings(&options), &RANKS).unwrap();
    file.exists().then(load)
}

#[test]
fn a_gradient_that_is_not_finite_stops_the_run_with_the_state_before() {
    let path = tempfile::tempdir().unwrap();
    let mut toy = Toy::planted(8);
    let mut exact = Exact { sane: 12, ..Exact::of(&toy) };
    let (ended, state) =
        train(path.path(), Earlier::Refuse, &options(), &weights(&RANKS), &mut toy, &mut exact).unwrap();
    let Ended::Failed(error) = ended else { panic!("{ended:?}") };
    let text = error.to_string();
    assert!(text.contains("gradient became NaN") && text.contains("`schedule.peak`"), "{text}");
    state.raw.check_finite("raw").unwrap();
    assert!(state.step >= 12 && state.step < 40 && state.best.is_some());
    assert_eq!(saved(path.path()).map(timeless), Some(timeless(state)));
    // From there it goes on to the same end as if nothing had been.
    let (_, state) = go_on(path.path(), &mut Toy::planted(8));
    assert_eq!(timeless(state), whole().0);
}

#[test]
fn equal_rewards_end_a_run_that_never_learnt_and_one_that_has() {
    for (reward, value) in [(0.0, 0.0), (1.0, 1.0)] {
        let path = tempfile::tempdir().unwrap();
        let of: crate::toy::Reward = if reward == 0.0 { |_, _, _| 0.0 } else { |_, _, _| 1.0 };
        let mut toy = Toy::new(vec![vec![1.0; 8]; 9], of);
        let mut exact = Exact::of(&toy);
        let (ended, state) =
            train(path.path(), Earlier::Refuse, &options(), &weights(&RANKS), &mut toy, &mut exact).unwrap();
        assert!(matches!(ended, Ended::Flat(found) if found == value), "{ended:?}");
        assert_eq!((state.step, state.raw), (10, Multipliers::filled(RANKS, 1.0)));
    }
    // Rewards that differ between questions, but not between the answers to one.
    let path = tempfile::tempdir().unwrap();
    let items = (0..8).map(|i| vec![i as f32; 8]).collect();
    let mut toy = Toy::new(items, |x, _, _| f64::from(u8::from(x[0] > 3.0)));
    let mut exact = Exact::of(&toy);
    let (ended, _) =
        train(path.path(), Earlier::Refuse, &options(), &weights(&RANKS), &mut toy, &mut exact).unwrap();
    assert!(matches!(ended, Ended::Flat(0.5)), "{ended:?}");
    // One item, soon mastered.
    let path = tempfile::tempdir().unwrap();
    let mut toy = Toy::new(vec![vec![1.0; 8]], |_, token, _| f64::from(token));
    let mut exact = Exact::of(&toy);
    let mut options = options();
    options.schedule = Schedule { peak: 0.1, steps: 400, ..options.schedule };
    let (ended, state) =
        train(path.path(), Earlier::Refuse, &options, &weights(&RANKS), &mut toy, &mut exact).unwrap();
    assert!(matches!(ended, Ended::Mastered), "{ended:?}");
    assert!(state.step < 400 && state.best.unwrap().accuracy() == 1.0);
}

#[test]
fn patience_ends_a_run_that_gets_no_better() {
    let path = tempfile::tempdir().unwrap();
    // Noise alone, and greedy answers that never get a reward.
    let mut toy = Toy::new(vec![vec![1.0; 8]; 9], |_, _, chance| f64::from(u8::from(chance < 0.4)));
    let mut exact = Exact::of(&toy);
    let options = Options { patience: Some(3), ..options() };
    let (ended, state) =
        train(path.path(), Earlier::Refuse, &options, &weights(&RANKS), &mut toy, &mut exact).unwrap();
    assert!(matches!(ended, Ended::Patience), "{ended:?}");
    // Of equals, the first that was trained.
    assert_eq!((state.step, state.best.unwrap().step), (15, 5));
}

#[test]
fn earlier_runs_are_not_lost_by_mistake_and_damage_is_noticed() {
    let path = tempfile::tempdir().unwrap();
    let at = |earlier, options: &Options, exact: &mut dyn Estimator| {
        train(path.path(), earlier, options, &weights(&RANKS), &mut Toy::planted(8), exact)
    };
    let mut exact = Exact::of(&Toy::planted(8));
    let mut short = options();
    short.schedule.steps = 6;
    at(Earlier::Refuse, &short, &mut exact).unwrap();
    let complaint = |earlier, options: &Options| {
        at(earlier, options, &mut Exact::of(&Toy::planted(8))).unwrap_err().to_string()
    };
    let text = complaint(Earlier::Refuse, &short);
    assert!(
        text.contains("toy.train")
            && text.contains("`Earlier::Resume`")
            && text.contains("`Earlier::Replace`"),
        "{text}"
    );
    let text = complaint(Earlier::Resume, &Options { kl: 0.5, ..short.clone() });
    assert!(text.contains("checkpoint: options.kl: ") && text.contains("0.5"), "{text}");

    let file = folder(path.path()).checkpoint();
    let good = fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&file, bad).unwrap();
        assert!(complaint(Earlier::Resume, &short).contains("checksum"), "byte {at}");
    }
    for length in [0, 20, good.len() / 2, good.len() - 1] {
        fs::write(&file, &good[..length]).unwrap();
        let text = complaint(Earlier::Resume, &short);
        assert!(text.contains("toy.train/checkpoint: ") && text.contains("`Earlier::Replace`"), "{text}");
    }
    // A log that is gone, or ends within a line, is no obstacle; a damaged one is named.
    fs::write(&file, &good).unwrap();
    let log = folder(path.path()).log();
    let lines = fs::read_to_string(&log).unwrap();
    fs::write(&log, &lines[..lines.len() - 9]).unwrap();
    at(Earlier::Resume, &short, &mut exact).unwrap();
    fs::remove_file(&log).unwrap();
    at(Earlier::Resume, &short, &mut exact).unwrap();
    fs::write(&log, format!("{lines}nonsense\n")).unwrap();
    let text = complaint(Earlier::Resume, &short);
    assert!(text.contains("log.jsonl: line "), "{text}");
    // And a new beginning is one.
    let (_, state) = at(Earlier::Replace, &short, &mut exact).unwrap();
    assert_eq!((state.step, state.adam.t), (6, 6));
    // An expert of which the run is gone is not its to replace.
    let lost = tempfile::tempdir().unwrap();
    fs::write(lost.path().join("toy.expert.gguf"), "somebody's").unwrap();
    let text = folder(lost.path()).check(Earlier::Resume).unwrap_err().to_string();
    assert!(text.contains("toy.expert.gguf: exists already"), "{text}");
}

#[test]
fn two_runs_do_not_work_in_one_folder() {
    let path = tempfile::tempdir().unwrap();
    let open = |folder: &mut Folder| {
        folder.open(Earlier::Resume, &options(), &settings(&options()), &weights(&RANKS)).map(|_| ())
    };
    let mut first = folder(path.path());
    open(&mut first).unwrap();
    let text = open(&mut folder(path.path())).unwrap_err().to_string();
    assert!(text.contains("toy.train: another run is at work here"), "{text}");
    drop(first);
    open(&mut folder(path.path())).unwrap();
}
