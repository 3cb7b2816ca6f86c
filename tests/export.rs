//! `export` from the outside: what it writes for the embedded model, and what it refuses.

#[path = "common/random_model.rs"]
#[allow(dead_code)]
mod random_model;

#[path = "support/program.rs"]
#[allow(dead_code)]
mod program;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use llama_svf::expert::Expert;
use llama_svf::sidecar::Sidecar;
use program::{assert_code, assert_one_error, number, stderr, stdout, svf, words};
use random_model::RandomModel;
use serde_json::Value;
use tempfile::TempDir;

fn run(folder: &Path, arguments: &str) -> Output {
    svf(words(folder, arguments))
}

fn json(folder: &Path, arguments: &str) -> Value {
    let output = run(folder, &format!("{arguments} --json"));
    assert_code(&output, 0);
    serde_json::from_str(stdout(&output)).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// What `arguments` answer to a question of arithmetic, greedily.
fn answer(folder: &Path, arguments: &str) -> String {
    let mut all = words(folder, arguments);
    let question = "Ben has 31 coins. Ben loses 14. Ben finds 8. How many coins does Ben have?";
    all.splice(0..0, ["run", "--chat", "--temp", "0", "-p", question].map(String::from));
    let output = svf(all);
    assert_code(&output, 0);
    stdout(&output).to_owned()
}

#[test]
fn the_embedded_models_experts_leave_it_in_every_form() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let expert = answer(folder, "--use math");
    assert_ne!(expert, answer(folder, ""));

    assert_code(&run(folder, "export merged --use math -o @math.gguf"), 0);
    assert_eq!(answer(folder, "-m @math.gguf"), expert);
    // Of half and half nothing is left to be seen but that it loads and is told what it costs.
    let merging = json(folder, "export merged --mix math=0.5,code=0.5 --type q4_0 -o @half.gguf");
    assert!(number(&merging, "/rounding") > number(&merging, "/change") / 4.0, "{merging:#}");
    assert_eq!(merging["mixture"]["code"], 0.5);
    assert!(!answer(folder, "-m @half.gguf").is_empty());
    let much = run(folder, "export merged --use math --strength 0.01 --type q4_0 -o @lost.gguf");
    assert!(stderr(&much).contains("much of it is lost"), "{}", stderr(&much));

    let whole = json(folder, "export lora --use math -o @math.lora.gguf");
    assert_eq!(number(&whole, "/relative_error"), 0.0);
    let small = json(folder, "export lora --use math --tolerance 0.3 -o @small.lora.gguf");
    let error = number(&small, "/relative_error");
    assert!(error > 0.2 && error <= 0.3, "{error}");
    assert!(number(&small, "/bytes") < number(&whole, "/bytes"));
    let nothing = run(folder, "export lora --use math --strength 0 -o @nothing.lora.gguf");
    assert!(stderr(&nothing).contains("the mixture changes nothing"), "{}", stderr(&nothing));
    assert_code(&nothing, 0);

    assert_code(&run(folder, "export peft --use math --rank 8 --type bf16 -o @math.peft"), 0);
    assert_eq!(names(&folder.join("math.peft")), ["adapter_config.json", "adapter_model.safetensors"]);

    for (file, words) in [
        ("math.lora.gguf", ["LoRA adapter math=1 for llama", "blk.0.attn_q.weight", "base model "]),
        ("math.peft", ["LoRA adapter math=1", "model.layers.0.self_attn.q_proj", "bf16"]),
        ("math.gguf", ["model ", "blk.0.attn_q.weight", "fingerprint "]),
    ] {
        let output = run(folder, &format!("inspect @{file}"));
        assert_code(&output, 0);
        words.iter().for_each(|word| assert!(stdout(&output).contains(word), "{word}: {}", stdout(&output)));
    }
    assert_code(&run(folder, "inspect @math.lora.gguf --verify"), 0);
    let inspected: Value =
        serde_json::from_str(stdout(&run(folder, "inspect @small.lora.gguf --json"))).unwrap();
    assert_eq!((&inspected["kind"], &inspected["alpha"]), (&"lora".into(), &Value::Null));

    // What is there stays, or is replaced when that is asked for.
    let before = fs::read(folder.join("math.gguf")).unwrap();
    assert_one_error("", &run(folder, "export merged --use code -o @math.gguf"), &["exists", "--force"]);
    assert!(fs::read(folder.join("math.gguf")).unwrap() == before);
    assert_code(&run(folder, "export merged --use code -o @math.gguf --force"), 0);
    assert!(fs::read(folder.join("math.gguf")).unwrap() != before);
    assert_code(&run(folder, "export peft --use math -o @math.peft --force"), 0);
}

#[test]
fn bad_input_is_one_clear_line_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    for (name, seed) in [("model", 1), ("other", 2)] {
        let model = folder.join(format!("{name}.gguf"));
        RandomModel { seed, ..RandomModel::tiny() }.write(&model).unwrap();
        let output = svf(["decompose", "-m", model.to_str().unwrap()]);
        assert_code(&output, 0);
    }
    let spark = folder.join("spark.gguf");
    RandomModel { arch: "spark2_5".into(), ..RandomModel::tiny() }.write(&spark).unwrap();
    assert_code(&svf(["decompose", "-m", spark.to_str().unwrap(), "--rank", "4"]), 0);
    for name in ["model", "other", "spark"] {
        let sidecar = Sidecar::open(folder.join(format!("{name}.svf.gguf"))).unwrap();
        let mut expert = Expert::identity(name, &sidecar);
        expert.multipliers.values_mut().flatten().for_each(|m| *m = 1.2);
        expert.save(folder.join(format!("{name}.expert.gguf"))).unwrap();
    }
    let cases: [(&str, &[&str]); 16] = [
        ("export lora -o @new", &["--use", "expert to export"]),
        ("export merged -o @new", &["--use", "expert to export"]),
        ("export peft --use maths -o @new", &["expert maths", "loaded: "]),
        ("export lora --use math --type x -o @new", &["--type", "'x'"]),
        ("export lora --use math --type q4_0 -o @new", &["--type", "f32, f16, bf16 or q8_0", "q4_0"]),
        ("export peft --use math --type q8_0 -o @new", &["--type", "f32, f16 or bf16"]),
        ("export merged --use math --type iq2_xxs -o @new", &["--type", "iq2_xxs", "hint"]),
        ("export merged --use math --type q4_K -o @new", &["tensor blk.0.attn_q.weight", "multiple of 256", "128"]),
        ("export lora --use math --tolerance 1 -o @new", &["--tolerance", "below 1"]),
        ("export lora --use math --tolerance nan -o @new", &["--tolerance", "NaN"]),
        ("export lora --use math --strength inf -o @new", &["--strength", "inf"]),
        ("export lora --use math -o @new/no/folder.gguf", &["folder.gguf", "cannot write"]),
        (
            "export merged -m @model.gguf --svf @other.svf.gguf --expert @other.expert.gguf --use other -o @new",
            &["other.svf.gguf", "fingerprint"],
        ),
        (
            "export lora -m @model.gguf --svf @other.svf.gguf --expert @other.expert.gguf --use other -o @new",
            &["other.svf.gguf", "fingerprint"],
        ),
        (
            "export lora --svf @model.svf.gguf --expert @other.expert.gguf --use other -o @new",
            &["other.expert.gguf", "base model"],
        ),
        (
            "export peft -m @spark.gguf --svf @spark.svf.gguf --expert @spark.expert.gguf --use spark -o @new",
            &["general.architecture", "llama, qwen2", "export lora"],
        ),
    ];
    let before = names(folder);
    for (arguments, fragments) in cases {
        assert_one_error(arguments, &run(folder, arguments), fragments);
        assert_eq!(names(folder), before, "{arguments}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing() {
    let unshare = |script: &str, folder: &Path| {
        let program = assert_cmd::cargo::cargo_bin!("llama-svf");
        let namespace = ["--user", "--map-root-user", "--mount", "sh", "-c", script];
        Command::new("unshare").args(namespace).arg(program).arg(folder).output()
    };
    let folder = TempDir::new().unwrap();
    if !unshare("true", folder.path()).is_ok_and(|output| output.status.success()) {
        println!("skipped: no mount namespaces here");
        return;
    }
    for (what, size) in [("lora", "1m"), ("merged", "1m"), ("peft", "1m")] {
        let script = format!(
            "mount -t tmpfs -o size={size} none \"$1\" && \"$0\" export {what} --use math -o \"$1/new\"; \
             echo \"code $?\"; ls -A \"$1\""
        );
        let output = unshare(&script, folder.path()).unwrap();
        assert!(stderr(&output).contains("No space left"), "{what}: {output:?}");
        assert_eq!(stdout(&output), "code 2\n", "{what}: {}", stderr(&output));
    }
}
