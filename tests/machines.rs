//! Models whose layers are on several machines.

#[path = "support/machines.rs"]
mod machines;
#[allow(dead_code)]
#[path = "support/program.rs"]
mod program;

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use llama_svf::engine::scheduler::Generate;
use llama_svf::engine::{
    AdaptedModel, Form, GraphOp, Model, ModelWithExperts, Offload, Request, RpcServer, Token,
};
use llama_svf::expert::{Expert, Mixture, Multipliers};
use llama_svf::progress::{Interrupt, Silent};
use llama_svf::sidecar::Sidecar;
use llama_svf::{decompose, embedded};
use machines::{Machine, Tamper, Wire};
use program::{assert_code, assert_one_error, stderr, stdout, svf};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PROMPT: &str = "Mia has 12 pens. Mia finds 4. Mia sells 6. How many pens does Mia have?";

fn run(arguments: &str) -> std::process::Output {
    let mut words =
        vec!["run", "--use", "math", "--chat", "--temp", "0", "-n", "30", "-t", "1", "-p", PROMPT];
    words.extend(arguments.split_whitespace());
    svf(words)
}

/// `--rpc` with these addresses.
fn flag(addresses: &[SocketAddr]) -> String {
    let listed: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    format!("--rpc {}", listed.join(","))
}

#[test]
fn layers_on_two_and_three_machines_answer_as_on_this_one() {
    let here = run("");
    assert_code(&here, 0);
    let machines: Vec<_> = (0..3).map(|_| Machine::start()).collect();
    assert!(machines[0].said.contains("for others, adapted layers fused"), "{}", machines[0].said);
    let addresses: Vec<_> = machines.iter().map(|machine| machine.address).collect();
    for n in [1, 2, 3] {
        for op in ["auto", "composed", "fused"] {
            let there = run(&format!("{} --op {op}", flag(&addresses[..n])));
            assert_code(&there, 0);
            assert_eq!(stdout(&there), stdout(&here), "{n} machines, {op}");
            // All of them have layers, and run them as was asked.
            let way = if op == "composed" { "composed" } else { "fused" };
            let line = stderr(&there).lines().find(|line| line.contains("adapted layers:")).unwrap();
            assert_eq!(line.matches(way).count(), n, "{line}");
            for address in &addresses[..n] {
                assert!(line.contains(&address.to_string()), "{line}");
            }
        }
    }
    // Layers that stay here.
    let some = run(&format!("{} -ngl 2", flag(&addresses[..1])));
    assert_code(&some, 0);
    assert_eq!(stdout(&some), stdout(&here));
    assert!(stderr(&some).contains("CPU"), "{}", stderr(&some));
}

#[test]
fn eight_experts_in_one_batch_are_the_same_far_away() {
    const SEED: u64 = 5;
    println!("seed {SEED}");
    let machines = [Machine::start(), Machine::start()];
    let connect = |machine: &Machine| Arc::new(RpcServer::connect(&machine.address.to_string()).unwrap());
    let files = embedded::Temporary::new().unwrap();
    let sidecar = decompose::embedded(&files, 1, &Silent, &Interrupt::new()).unwrap();
    let sidecar = sidecar.file().path().to_owned();
    let answers = |offload: &Offload| -> Vec<Vec<Token>> {
        let model = Model::load_with(files.path(), offload, None).unwrap();
        let sidecar = Sidecar::open(&sidecar).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let experts: Vec<_> = (0..8)
            .map(|i| {
                let mut m = Multipliers::identity(&sidecar);
                m.flat_mut().iter_mut().for_each(|m| *m = rng.random_range(0.7..1.3));
                Expert::of_multipliers(&format!("expert-{i}"), &sidecar, &m)
            })
            .collect();
        let adapted = AdaptedModel::new(&model, sidecar).unwrap();
        let joined = ModelWithExperts::new(adapted, experts, Form::Residual, GraphOp::Auto);
        let prompt = model.tokenize(PROMPT, true, true).unwrap();
        let request = |i| {
            let mixture = Mixture::single(format!("expert-{i}"));
            Request::generate(prompt.clone(), mixture, Generate::greedy(20))
        };
        let scheduler = joined.scheduler(8, 128, 1).unwrap();
        let mut found = vec![Vec::new(); 8];
        let done = |index: usize, outcome: llama_svf::engine::scheduler::Outcome| {
            found[index] = outcome.completion()?.tokens;
            Ok(())
        };
        scheduler.complete((0..8).map(request).collect(), &Interrupt::new(), done).unwrap();
        found
    };
    let here = answers(&Offload::default());
    let servers = machines.iter().map(connect).collect();
    let there = answers(&Offload { n_gpu_layers: 99, servers });
    assert_eq!(here, there);
    assert!((1..8).any(|i| here[i] != here[0]), "the experts answer alike");
    // A model that is loaded afterwards stays here.
    assert_eq!(here, answers(&Offload::gpu(99)));
}

#[test]
fn what_is_trained_and_evaluated_far_away_is_the_same() {
    let machine = Machine::start();
    let folder = tempfile::tempdir().unwrap();
    let far = flag(&[machine.address]);
    let trained = |name: &str, more: &str| {
        let output = folder.path().join(name);
        let arguments = format!(
            "train --task math --steps 2 --prompts 4 --samples 4 --validation-items 8 --examples none -t 1 -o {} {more}",
            output.display()
        );
        assert_code(&svf(arguments.split_whitespace()), 0);
        let log =
            std::fs::read_to_string(output.with_extension("").with_extension("train").join("log.jsonl"));
        let steps = log.unwrap();
        let numbers = steps.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        numbers.map(|line| (line["reward"].clone(), line["accuracy"].clone())).collect::<Vec<_>>()
    };
    let here = trained("here.gguf", "");
    assert!(here.len() > 2, "{here:?}");
    assert_eq!(trained("there.gguf", &far), here);
    let evaluated = |more: &str| {
        let arguments = format!("eval --task code --use code -n 12 --json -t 1 {more}");
        let output = svf(arguments.split_whitespace());
        assert_code(&output, 0);
        let value: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
        program::number(&value, "/accuracy")
    };
    assert_eq!(evaluated(""), evaluated(&far));
}

#[test]
fn a_stock_server_gets_stock_operations() {
    let machine = Machine::start();
    let wire = Wire::to(machine.address, Tamper { is_stock: true, ..Tamper::default() });
    let (here, there) = (run(""), run(&flag(&[wire.address])));
    assert_code(&there, 0);
    assert_eq!(stdout(&there), stdout(&here));
    assert!(stderr(&there).contains("composed") && !stderr(&there).contains("fused"), "{}", stderr(&there));
    let refused = run(&format!("{} --op fused", flag(&[wire.address])));
    assert_one_error("--op fused", &refused, &["has no fused operation"]);
}

#[test]
fn a_slow_wire_only_takes_longer() {
    let machine = Machine::start();
    let wire = Wire::to(machine.address, Tamper { delay: Duration::from_millis(2), ..Tamper::default() });
    let there = run(&flag(&[wire.address]));
    assert_code(&there, 0);
    assert_eq!(stdout(&there), stdout(&run("")));
    assert!(wire.n_bytes() > 1 << 20, "{} bytes for a model of 3 MiB", wire.n_bytes());
}

#[test]
fn a_wire_that_breaks_is_one_error() {
    let machine = Machine::start();
    let wire = Arc::new(Wire::to(machine.address, Tamper::default()));
    let flag = flag(&[wire.address]);
    assert_code(&run(&flag), 0);
    // As much again, and the model and one answer are over there; the others are not.
    let end = 2 * wire.n_bytes() + 200_000;
    let cutter = Arc::clone(&wire);
    std::thread::spawn(move || {
        while cutter.n_bytes() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        cutter.cut();
    });
    let arguments = format!("eval --task math --use math -t 1 {flag}");
    let began = Instant::now();
    let output = svf(arguments.split(' '));
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let errors: Vec<_> = stderr(&output).lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", stderr(&output));
    assert!(errors[0].contains("broke") && errors[0].contains(&wire.address.to_string()), "{errors:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn what_is_no_server_of_ours_is_told_apart() {
    let machine = Machine::start();
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent_at, rude_at) = (silent.local_addr().unwrap(), rude.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in rude.incoming().flatten() {
            // Reads what was said, and goes.
            let _ = (&client).read(&mut [0; 64]);
        }
    });
    let old = Wire::to(machine.address, Tamper { version: Some(3), ..Tamper::default() });
    for (endpoint, fragments) in [
        (nobody.to_string(), vec!["cannot be reached", "llama-svf rpc-server"]),
        (silent_at.to_string(), vec!["did not answer", "one client at a time"]),
        (rude_at.to_string(), vec!["ended the connection"]),
        (old.address.to_string(), vec!["version 7.0", "version 3.0"]),
        ("127.0.0.1".into(), vec!["HOST:PORT", "RPC server 127.0.0.1"]),
        ("[::1]:50052".into(), vec!["HOST:PORT"]),
        ("127.0.0.1:0".into(), vec!["HOST:PORT"]),
        ("127.0.0.1:99999".into(), vec!["HOST:PORT"]),
        ("no.such.host.invalid:50052".into(), vec!["no IPv4 address"]),
        (format!("{0},{0}", machine.address), vec!["twice"]),
    ] {
        let began = Instant::now();
        let output = run(&format!("--rpc {endpoint}"));
        assert_one_error(&endpoint, &output, &fragments);
        assert!(began.elapsed() < Duration::from_secs(20), "{endpoint}: {:?}", began.elapsed());
    }
    // Somebody else is served.
    let _held = RpcServer::connect(&machine.address.to_string()).unwrap();
    let output = run(&flag(&[machine.address]));
    assert_one_error("a server at work", &output, &["did not answer", "one client at a time"]);
    drop(silent);
}

#[test]
fn a_server_that_cannot_listen_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (arguments, fragments) in [
        (format!("rpc-server --port {port}"), vec!["cannot listen", "127.0.0.1"]),
        ("rpc-server --host 203.0.113.7".into(), vec!["cannot listen", "203.0.113.7"]),
        ("rpc-server --host no.such.host.invalid".into(), vec!["--host"]),
        ("rpc-server -t 0".into(), vec!["--threads"]),
        ("rpc-server --cache /dev/null/folder".into(), vec!["/dev/null/folder"]),
    ] {
        let output = svf(arguments.split_whitespace());
        assert_one_error(&arguments, &output, &fragments);
    }
}
