//! The program from the outside: arguments in; stdout, stderr, exit code and files out.

#[path = "common/random_model.rs"]
#[allow(dead_code)]
mod random_model;

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use llama_svf::expert::Expert;
use llama_svf::ffi::gguf::{GgufFile, GgufHeader};
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::sidecar::{seal, Sidecar};
use program::{assert_code, assert_one_error, command, number, stderr, stdout, svf, words};
use random_model::RandomModel;
use serde_json::Value;

/// A ChatML template; llama.cpp recognises it by its words.
const CHATML: &str =
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' \
                      + '\n'}}{% endfor %}{{'<|im_start|>assistant\n'}}";

/// Files that all tests read and none changes.
struct Files {
    folder: PathBuf,
}

impl Files {
    /// Made once per test run, by the program itself where it can.
    fn shared() -> &'static Self {
        static FILES: OnceLock<Files> = OnceLock::new();
        FILES.get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            let files = Self { folder };
            files.make();
            files
        })
    }

    fn make(&self) {
        let model = RandomModel::tiny();
        model.write(&self.path("model.gguf")).unwrap();
        RandomModel { seed: 2, ..model }.write(&self.path("other.gguf")).unwrap();
        with_template(&self.path("model.gguf"), &self.path("chat.gguf"));
        for (name, rank) in [("model", "full"), ("other", "full")] {
            let model = self.text(&format!("{name}.gguf"));
            let output = svf(["decompose", "-m", &model, "--rank", rank]);
            assert_code(&output, 0);
        }
        let low = self.text("low.svf.gguf");
        assert_code(&svf(["decompose", "-m", &self.text("model.gguf"), "-o", &low, "--rank", "8"]), 0);

        let sidecar = Sidecar::open(self.path("model.svf.gguf")).unwrap();
        for (name, m) in [("up", 1.5), ("down", 0.25)] {
            let mut expert = Expert::identity(name, &sidecar);
            expert.multipliers.values_mut().flatten().for_each(|x| *x = m);
            expert.save(self.path(&format!("{name}.expert.gguf"))).unwrap();
        }
        write_nan_expert(&self.path("nan.expert.gguf"), &sidecar);
        let other = Sidecar::open(self.path("other.svf.gguf")).unwrap();
        Expert::identity("other", &other).save(self.path("other.expert.gguf")).unwrap();

        fs::write(self.path("text.gguf"), "This is no GGUF file.").unwrap();
        fs::write(self.path("empty.gguf"), "").unwrap();
        fs::write(self.path("mix.json"), r#"{"up": 0.5, "down": 0.25}"#).unwrap();
        fs::write(self.path("broken.json"), r#"{"up": 0.5"#).unwrap();
        self.spoil("model.svf.gguf", "cut.svf.gguf", |bytes| bytes.truncate(bytes.len() / 2));
        self.spoil("up.expert.gguf", "cut.expert.gguf", |bytes| bytes.truncate(bytes.len() - 100));
        self.spoil("up.expert.gguf", "flipped.expert.gguf", |bytes| {
            let at = bytes.len() - 100;
            bytes[at] ^= 0x10;
        });
        self.spoil("model.gguf", "nan.gguf", |bytes| {
            let file = GgufFile::open(self.path("model.gguf")).unwrap();
            let at = file.tensor("blk.1.ffn_up.weight").unwrap().offset + 40;
            bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        });
        // Only `--verify` reads the factors.
        self.spoil("model.svf.gguf", "flipped.svf.gguf", |bytes| {
            let at = sidecar.weight("blk.1.ffn_up.weight").unwrap().vt.offset + 7;
            bytes[at] ^= 0x10;
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn spoil(&self, from: &str, to: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(from)).unwrap();
        change(&mut bytes);
        fs::write(self.path(to), bytes).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// `@name` stands for a file's path.
    fn expand(&self, arguments: &str) -> Vec<String> {
        words(&self.folder, arguments)
    }

    fn run(&self, arguments: &str) -> Output {
        svf(self.expand(arguments))
    }
}

/// The same model with a chat template.
fn with_template(from: &Path, to: &Path) {
    let file = GgufFile::open(from).unwrap();
    let mut header = GgufHeader::new();
    header.copy_metadata(&file);
    header.set_str("tokenizer.chat_template", CHATML).unwrap();
    for tensor in file.tensors() {
        header.add_tensor(&tensor.name, &tensor.ne[..tensor.n_dims], tensor.ty).unwrap();
    }
    let mut bytes = header.encode();
    for tensor in file.tensors() {
        bytes.resize(header.data_offset(&tensor.name).unwrap(), 0);
        bytes.extend(file.bytes(tensor));
    }
    bytes.resize(header.total_size(), 0);
    fs::write(to, bytes).unwrap();
}

/// An expert with a NaN and the right checksum, as a broken trainer might write it.
fn write_nan_expert(path: &Path, sidecar: &Sidecar) {
    let weight = &sidecar.weights[0];
    let mut m = vec![1.0f32; weight.rank];
    m[3] = f32::NAN;
    let bytes: Vec<u8> = m.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut header = GgufHeader::new();
    for (key, value) in [
        ("general.type", "adapter"),
        ("adapter.type", "svf-expert"),
        ("svf.base.fingerprint", sidecar.fingerprint.as_str()),
        ("general.name", "nan"),
        ("general.description", "broken"),
    ] {
        header.set_str(key, value).unwrap();
    }
    header.set_u32("svf.version", 1).unwrap();
    header.add_tensor(&weight.name, &[m.len()], TensorType::F32).unwrap();
    let mut file = seal::encode(&mut header, &[blake3::hash(&bytes)]).unwrap();
    file.extend(&bytes);
    file.resize(header.total_size(), 0);
    fs::write(path, file).unwrap();
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert_code(output, 0);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

#[test]
fn a_model_becomes_a_sidecar_that_can_be_looked_at() {
    let files = Files::shared();
    let out = files.text("again.svf.gguf");
    let model = files.text("model.gguf");
    let report =
        json(&svf(["decompose", "-m", &model, "-o", &out, "--rank", "16", "--type", "f16", "--json"]));
    assert_eq!(report["weights"].as_array().unwrap().len(), 6);
    let again = svf(["decompose", "-m", &model, "-o", &out, "--rank", "16", "--type", "f16"]);
    assert_code(&again, 2);
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));

    let view = json(&svf(["inspect", &out, "--json", "--verify"]));
    assert_eq!(view["kind"], "sidecar");
    assert_eq!(view["verified"], true);
    assert_eq!(view["weights"][0]["rank"], 16);
    let text = svf(["inspect", &out]);
    assert_code(&text, 0);
    assert!(
        stdout(&text).contains("blk.1.ffn_down.weight") && stdout(&text).contains('█'),
        "{}",
        stdout(&text)
    );
    fs::remove_file(out).unwrap();

    assert_eq!(json(&files.run("inspect --json @model.gguf"))["kind"], "model");
    let expert = json(&files.run("inspect --json --verify @up.expert.gguf"));
    assert_eq!((expert["kind"].as_str(), expert["weights"][0]["mean"].as_f64()), (Some("expert"), Some(1.5)));
}

#[test]
fn verification_says_no_and_where() {
    let files = Files::shared();
    for (file, place) in
        [("flipped.svf.gguf", "blk.1.ffn_up.weight.svf_vt"), ("nan.gguf", "blk.1.ffn_up.weight")]
    {
        assert_code(&files.run(&format!("inspect @{file}")), 0);
        let output = files.run(&format!("inspect --verify @{file}"));
        assert_code(&output, 1);
        assert!(stderr(&output).contains(place), "{}", stderr(&output));
        let view = files.run(&format!("inspect --verify --json @{file}"));
        assert_eq!(serde_json::from_slice::<Value>(&view.stdout).unwrap()["verified"], false);
    }
}

#[test]
fn experts_change_the_text_and_their_absence_does_not() {
    let files = Files::shared();
    let text = |extra: &str| {
        let output = files.run(&format!("run -m @model.gguf -p abc -n 24 --temp 0 --json {extra}"));
        let value = json(&output);
        assert_eq!(value["schema"], "llama-svf/run/1");
        (value["text"].as_str().unwrap().to_owned(), value["mixture"].clone())
    };
    let svf = "--svf @model.svf.gguf --expert @up.expert.gguf --expert low=@down.expert.gguf";
    let (base, mixture) = text("");
    assert_eq!(mixture, serde_json::json!({}));
    assert_eq!(text("--svf @model.svf.gguf").0, base);
    assert_eq!(text(svf).0, base);
    assert_eq!(text(&format!("{svf} --use up --strength 0")).0, base);

    let (up, mixture) = text(&format!("{svf} --use up"));
    assert_eq!(mixture, serde_json::json!({"up": 1.0}));
    assert_ne!(up, base);
    assert_eq!(text(&format!("{svf} --use up --op composed")).0, up);
    let (_, mixture) = text(&format!("{svf} --mix up=0.5,low=0.25 --strength 2"));
    assert_eq!(mixture, serde_json::json!({"up": 1.0, "low": 0.5}));
    text("--svf @model.svf.gguf --expert @up.expert.gguf --expert @down.expert.gguf --mix @@mix.json");
}

#[test]
fn results_go_to_stdout_and_talk_to_stderr() {
    let files = Files::shared();
    let plain = files.run("run -m @model.gguf -p abc -n 8 --temp 0");
    assert_code(&plain, 0);
    let value = json(&files.run("run -m @model.gguf -p abc -n 8 --temp 0 --json"));
    assert_eq!(stdout(&plain), format!("{}\n", value["text"].as_str().unwrap()));
    assert_eq!(value["n_generated"], 8);
    assert!(stderr(&plain).contains("8 generated"), "{}", stderr(&plain));

    let unused = files.run("run -m @model.gguf -p abc -n 1 --svf @model.svf.gguf --expert @up.expert.gguf");
    assert!(stderr(&unused).contains("no expert is in use"), "{}", stderr(&unused));
    let full = json(&files.run("run -m @model.gguf -p abc -n -1 -c 256 --temp 0 --json"));
    assert!(["context", "end"].contains(&full["stop"].as_str().unwrap()), "{full:#}");
}

#[test]
fn a_chat_keeps_its_history_and_takes_commands() {
    let files = Files::shared();
    let lines = "abc\n/use up\ndef\n/mix up=nan\n/unload up\n/use\n/unload up\n/use up\n/clear\n/nonsense\n/experts\n\n/exit\n";
    let input = files.path("chat.txt");
    fs::write(&input, lines).unwrap();
    let arguments = "run -m @chat.gguf --svf @model.svf.gguf --expert @up.expert.gguf --chat -n 4 --temp 0";
    let mut command = command(files.expand(arguments));
    // Of such a terminal the prompt could show among the replies.
    let output = command.env("TERM", "dumb").stdin(fs::File::open(&input).unwrap()).output().unwrap();
    fs::remove_file(input).unwrap();
    assert_code(&output, 0);
    let talk = stderr(&output);
    assert_eq!(talk.matches("4 generated").count(), 2, "{talk}");
    assert_eq!(talk.matches("error: ").count(), 4, "{talk}");
    for line in
        ["mixture: up=1]", "mixture: up=nan", "in use", "unknown expert", "unknown command", "no expert"]
    {
        let line = if line == "mixture: up=nan" { "finite weight" } else { line };
        assert!(talk.contains(line), "no '{line}' in {talk}");
    }
    let once = json(&files.run("run -m @chat.gguf --chat -p abc -n 4 --temp 0 --json"));
    assert!(stdout(&output).starts_with(once["text"].as_str().unwrap()), "{}", stdout(&output));
}

/// Without a flag that names them.
#[test]
fn a_chat_on_the_embedded_model_has_its_experts_at_hand() {
    let input = Files::shared().path("embedded.txt");
    let question = "Mia has 12 pens. Mia finds 4. Mia sells 6. How many pens does Mia have?";
    fs::write(&input, format!("/experts\n/use math\n{question}\n/exit\n")).unwrap();
    let output = command(["run", "--chat", "--temp", "0"]).stdin(fs::File::open(&input).unwrap()).output();
    let output = output.unwrap();
    fs::remove_file(input).unwrap();
    assert_code(&output, 0);
    assert!(stdout(&output).contains("Answer: 10"), "{}", stdout(&output));
    let talk = stderr(&output);
    for line in ["reasoning: ", "mixture: math=1"] {
        assert!(talk.contains(line), "no '{line}' in {talk}");
    }
    assert!(!talk.contains("error: "), "{talk}");
}

#[test]
fn a_chat_takes_another_template_and_a_system_message() {
    let files = Files::shared();
    fs::write(
        files.path("own.jinja"),
        "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\n' }}{% endfor %}",
    )
    .unwrap();
    let tokens = |arguments: &str| json(&files.run(arguments))["n_prompt"].as_u64().unwrap();
    let run = "run -m @chat.gguf --chat -p abc -n 1 --temp 0 --json";
    let own = tokens(&format!("{run} --chat-template-file @own.jinja"));
    assert_ne!(own, tokens(run));
    assert!(tokens(&format!("{run} --chat-template-file @own.jinja --system x")) > own);
    let plain = run.replace("@chat.gguf", "@model.gguf");
    assert!(tokens(&format!("{plain} --chat-template chatml")) > 0);
    for (arguments, fragments) in [
        (plain.as_str(), ["model.gguf: tokenizer.chat_template: ", "--chat-template"]),
        ("eval -m @model.gguf --task math -n 1", ["tokenizer.chat_template: ", "--no-chat"]),
        (
            "train -m @model.gguf --svf @model.svf.gguf --task math -o @x.expert.gguf",
            ["tokenizer.chat_template: ", "--no-chat"],
        ),
        ("run -m @chat.gguf --chat -p a --chat-template-file @none.jinja", ["none.jinja", "cannot read"]),
        ("run -m @chat.gguf -p a --system x", ["--system: ", "--chat"]),
    ] {
        assert_one_error(arguments, &files.run(arguments), &fragments);
    }
}

#[test]
fn bench_reports_every_figure() {
    let files = Files::shared();
    let value = json(&files.run("bench -m @model.gguf --svf @low.svf.gguf --rounds 2 -t 1 --json"));
    assert_eq!(value["schema"], "llama-svf/bench/1");
    for section in ["decode", "prefill"] {
        for key in ["base_ms", "composed_ms", "fused_ms", "lora_ms"] {
            assert!(number(&value, &format!("/{section}/{key}")) > 0.0);
        }
        assert!(number(&value, &format!("/{section}/byte_bound")) >= 1.0);
    }
    for key in ["/batch8/same_tok_s", "/batch8/mixed_tok_s", "/batch8/lora_mixed_tok_s"] {
        assert!(number(&value, key) > 0.0);
    }
    number(&value, "/switch_ms");
    // The variants compute one function, up to the rounding of F16 and Q8_0 (each below 1 % of a factor).
    assert!(number(&value, "/agreement/expert_effect") > 0.0);
    assert!(
        number(&value, "/agreement/lora") < 0.1 && number(&value, "/agreement/composed") < 0.1,
        "{value:#}"
    );
    assert_eq!(value["replaced_bytes_per_token"], 0);
    assert_eq!(value["placements"][0]["device"], "CPU");

    // In place of the weights the factors are another way to the same function, and other bytes.
    let arguments = "bench -m @model.gguf --svf @model.svf.gguf --rounds 1 -t 1";
    let value = json(&files.run(&format!("{arguments} --form factored --json")));
    let bytes = |of: &str| number(&value, &format!("/{of}_bytes_per_token"));
    let bound = (bytes("base") - bytes("replaced") + bytes("factor")) / bytes("base");
    assert!(bytes("replaced") > 0.0 && (number(&value, "/decode/byte_bound") - bound).abs() < 1e-9);
    assert!(number(&value, "/agreement/lora") < 0.1, "{value:#}");

    let table = files.run(arguments);
    assert_code(&table, 0);
    assert!(stdout(&table).contains("experts, fused"), "{}", stdout(&table));
}

/// Arguments that are refused, and what the message must name.
const BAD: [(&str, &[&str]); 38] = [
    ("inspect @absent.gguf", &["absent.gguf", "cannot open"]),
    ("inspect @text.gguf", &["text.gguf", "magic", "hint"]),
    ("inspect @empty.gguf", &["empty.gguf", "empty file"]),
    ("inspect @cut.svf.gguf", &["cut.svf.gguf", "hint"]),
    ("inspect @cut.expert.gguf", &["cut.expert.gguf", "hint"]),
    ("inspect @flipped.expert.gguf", &["flipped.expert.gguf", "tensor", "hint"]),
    ("inspect @nan.expert.gguf", &["nan.expert.gguf", "tensor blk.0", "NaN", "hint"]),
    ("decompose -m @text.gguf", &["text.gguf", "magic"]),
    ("decompose -m @model.svf.gguf", &["model.svf.gguf", "adapter", "hint"]),
    ("decompose -m @model.gguf", &["model.svf.gguf", "exists", "--force"]),
    ("decompose -m @model.gguf -o @model.gguf --force", &["model.gguf", "replace"]),
    ("decompose -m @model.gguf -o @no/folder.svf.gguf", &["folder.svf.gguf"]),
    ("decompose -m @model.gguf -o @new.svf.gguf --tensors nothing", &["model.gguf", "nothing", "hint"]),
    ("decompose -m @model.gguf -o @new.svf.gguf --tensors (", &["tensors", "'('"]),
    ("decompose -m @model.gguf -o @new.svf.gguf --rank 0", &["rank", "'0'"]),
    ("decompose -m @model.gguf -o @new.svf.gguf --type q4_0", &["type", "q4_0"]),
    ("decompose -m @model.gguf -o @new.svf.gguf --type x", &["--type", "'x'"]),
    ("run -m @absent.gguf -p a", &["absent.gguf"]),
    ("run -m @model.svf.gguf -p a", &["model.svf.gguf", "general.type", "--svf"]),
    ("run -m @model.gguf", &["-p", "--chat"]),
    ("run -m @model.gguf --chat -p a", &["model.gguf", "tokenizer.chat_template", "hint"]),
    ("run -m @model.gguf -p abcdefghijklmnopqrstuvwxyz --temp nan", &["--temp", "NaN"]),
    ("run -m @model.gguf -p a --top-p 2", &["--top-p", "2"]),
    ("run -m @model.gguf -p a -t 0", &["threads", "0"]),
    ("run -m @model.gguf -p a --expert @up.expert.gguf --use up", &["--svf", "sidecar", "decompose"]),
    ("run -m @model.gguf -p a --adapt prompt", &["--svf", "sidecar", "decompose"]),
    ("run -m @model.gguf -p a --strength 2", &["--svf", "sidecar", "decompose"]),
    ("run -m @model.gguf -p a --svf @up.expert.gguf", &["up.expert.gguf", "adapter.type", "hint"]),
    ("run -m @model.gguf -p a --svf @other.svf.gguf", &["other.svf.gguf", "fingerprint", "hint"]),
    (
        "run -m @model.gguf -p a --svf @model.svf.gguf --expert @other.expert.gguf --use other",
        &["other.expert.gguf", "expert other", "hint"],
    ),
    (
        "run -m @model.gguf -p a --svf @model.svf.gguf --expert @nan.expert.gguf --use nan",
        &["nan.expert.gguf", "NaN"],
    ),
    (
        "run -m @model.gguf -p a --svf @model.svf.gguf --expert @up.expert.gguf --use maths",
        &["expert maths", "loaded: up", "hint"],
    ),
    (
        "run -m @model.gguf -p a --svf @model.svf.gguf --expert @up.expert.gguf --mix up=inf",
        &["'up'", "inf", "hint"],
    ),
    ("run -m @model.gguf -p a --svf @model.svf.gguf --mix @@broken.json", &["broken.json"]),
    (
        "run -m @model.gguf -p a --svf @model.svf.gguf --expert @up.expert.gguf --use up --strength nan",
        &["strength", "NaN", "hint"],
    ),
    ("run -m @model.gguf -p a --svf @low.svf.gguf --form factored", &["low.svf.gguf", "--form", "hint"]),
    ("bench -m @model.gguf --svf @model.svf.gguf --rounds 0", &["--rounds", "0"]),
    ("bench -m @model.gguf --svf @low.svf.gguf --form factored", &["low.svf.gguf", "--form", "hint"]),
];

#[test]
fn bad_input_is_one_clear_line() {
    let files = Files::shared();
    for (arguments, fragments) in BAD {
        let output = files.run(arguments);
        assert_one_error(arguments, &output, fragments);
        let written: Vec<_> = files.names().into_iter().filter(|name| name.starts_with("new")).collect();
        assert_eq!(written, Vec::<String>::new(), "{arguments}");
    }
}

#[test]
fn a_weight_that_is_no_number_makes_no_sidecar() {
    let files = Files::shared();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.svf.gguf");
    let output = svf(["decompose", "-m", &files.text("nan.gguf"), "-o", out.to_str().unwrap()]);
    assert_code(&output, 2);
    let errors: Vec<_> = stderr(&output).lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", stderr(&output));
    assert!(errors[0].contains("nan.gguf") && errors[0].contains("blk.1.ffn_up.weight"), "{}", errors[0]);
    assert!(!out.exists());
}

#[test]
fn a_prompt_beyond_the_context_is_refused() {
    let files = Files::shared();
    let prompt = "word ".repeat(400);
    let output = svf(["run", "-m", &files.text("model.gguf"), "-c", "256", "-p", &prompt]);
    assert_code(&output, 2);
    assert!(
        stderr(&output).contains("--ctx-size") && stderr(&output).contains("hint"),
        "{}",
        stderr(&output)
    );
}

/// A program that writes text for minutes unless it is stopped.
#[cfg(unix)]
fn endless(files: &Files) -> std::process::Child {
    let arguments = "run -m @model.gguf -p abc -n -1 -c 100000 --temp 0";
    command(files.expand(arguments)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_reply() {
    let mut child = endless(Files::shared());
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 130);
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = endless(Files::shared());
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let said: Vec<_> = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(|line| line.unwrap())
        .filter(|line| !line.starts_with("note: "))
        .collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(said, Vec::<String>::new());
}
