//! `llama-svf task`: what a task is, what the model will see, and whether its own gold completions score 1.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{json, Value};

use super::inputs::{check_template, PartFlag, TaskOptions};
use super::runtime_args::TemplateArgs;
use super::{ctrl_c, printer};
use crate::engine::{Model, Offload, Token};
use crate::error::{exit, Error, Result};
use crate::eval::Questions;
use crate::task::{Check, Item, Part, Task};

/// Show what a task is, and check it before spending hours on it
///
/// Shows where the rows come from, how many items each part has, one prompt with its gold answer, and how answers are
/// generated and scored. Then every gold completion is scored as if the model had written it: one that does not score 1
/// (a reward that looks elsewhere, a stop string that cuts the answer, a test that fails) would make every right answer a
/// wrong one.
///
/// With a model, the prompt is shown as the model will see it, inside its chat template, with its tokens, and prompts and
/// answers are compared with what fits.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf task math                                  a built-in task\n  \
    llama-svf task gsm8k --data gsm8k/test.jsonl.gz      a preset with its data\n  \
    llama-svf task my-task.toml -m model.gguf            the prompt in the model's own chat template\n  \
    llama-svf task mbpp --data mbpp.jsonl --allow-exec   runs every gold program and its tests\n  \
    llama-svf task my-task.toml --part test --json       for programs\n\n\
    Exit codes: 0 all gold completions score 1, 1 some do not, 2 error, 130 interrupted.")]
pub struct Args {
    /// A built-in task, a preset or a task file; several with commas between are one shuffled stream
    #[arg(value_name = "TASK")]
    task: String,
    #[command(flatten)]
    options: TaskOptions,
    /// This part of the items only [default: all]
    #[arg(long, value_enum)]
    part: Option<PartFlag>,
    /// Show the prompt as this model will see it, a GGUF file
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Gold completions that do not score 1, of which the text shows so many; JSON has all.
const N_SHOWN: usize = 20;

pub fn main(args: &Args) -> Result<u8> {
    let task = args.options.load(&args.task)?;
    let parts = args.part.map_or(Part::ALL.to_vec(), |part| vec![part.part()]);
    let items: Vec<&Item> = parts.iter().flat_map(|&part| task.items(part)).collect();
    // What is reported on is the best example.
    let shown = [Part::Test, Part::Validation, Part::Train];
    let shown =
        shown.into_iter().filter(|part| parts.contains(part)).find_map(|part| task.items(part).first());
    let Some(example) = shown else {
        let part = args.part.map_or("", |part| part.part().name());
        return Err(Error::invalid(format!("the task has no {part} items")).field("part"));
    };
    // Nothing is computed with it, so that it need not leave the disk.
    let load = |path| Model::load_with(path, &Offload::default(), args.template.read()?);
    let model = args.model.as_deref().map(load).transpose()?;
    if let Some(model) = &model {
        check_template(&task, model)?;
    }
    let seen = model.as_ref().map(|model| Seen::new(model, &task, &parts, example)).transpose()?;
    let check = task.check(&items, &printer::Bar::new("checking"), &ctrl_c::INTERRUPT)?;
    let shown = Shown { task: &task, example, seen, check };
    match args.json {
        true => printer::print_json(&shown.json())?,
        false => printer::print(&shown.text())?,
    }
    Ok(if shown.check.faults.is_empty() { exit::DONE } else { exit::NO })
}

/// What a model makes of the task.
struct Seen {
    /// The example's prompt.
    tokens: Vec<Token>,
    pieces: Vec<String>,
    text: String,
    /// Tokens of the longest prompt, and of the longest gold completion.
    longest_prompt: usize,
    longest_completion: usize,
    n_ctx_train: usize,
}

impl Seen {
    fn new(model: &Model, task: &Task, parts: &[Part], example: &Item) -> Result<Self> {
        let tokens = Questions::new(model, task, std::slice::from_ref(example))?.into_prompts().concat();
        let bytes: Vec<_> = tokens.iter().map(|&token| model.spelling(token)).collect();
        let (mut longest_prompt, mut longest_completion) = (0, 0);
        for &part in parts {
            let questions = Questions::new(model, task, task.items(part))?;
            let lengths = questions.prompts().iter().map(Vec::len);
            longest_prompt = lengths.fold(longest_prompt, usize::max);
            for item in task.items(part) {
                let length = model.tokenize(&item.completion, false, false)?.len();
                longest_completion = longest_completion.max(length);
            }
        }
        Ok(Self {
            tokens,
            pieces: bytes.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect(),
            text: String::from_utf8_lossy(&bytes.concat()).into_owned(),
            longest_prompt,
            longest_completion,
            n_ctx_train: model.n_ctx_train() as usize,
        })
    }

    /// What does not fit.
    fn warnings(&self, max_tokens: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        // The token that ends an answer is one of its tokens.
        if self.longest_completion + 1 > max_tokens {
            warnings.push(format!(
                "the longest gold completion has {} tokens, and answers are cut off at {max_tokens} (hint: raise \
                 max_tokens)",
                self.longest_completion
            ));
        }
        if self.longest_prompt + max_tokens > self.n_ctx_train {
            warnings.push(format!(
                "the longest prompt has {} tokens and its answer may have {max_tokens}, but the model's context is {}",
                self.longest_prompt, self.n_ctx_train
            ));
        }
        warnings
    }
}

/// What is printed.
struct Shown<'a> {
    task: &'a Task,
    example: &'a Item,
    seen: Option<Seen>,
    check: Check,
}

impl Shown<'_> {
    fn notes(&self) -> Vec<String> {
        let mut notes = self.task.notes().to_vec();
        if let Some(seen) = &self.seen {
            notes.extend(seen.warnings(self.task.generation().max_tokens));
        }
        if self.check.n_cut > 0 {
            notes.push(format!(
                "a stop string cuts {} gold completions off, which score 1 all the same",
                self.check.n_cut
            ));
        }
        notes
    }

    fn json(&self) -> Value {
        let Self { task, example, seen, check } = self;
        let origin = task.origin();
        let data = |file: &crate::task::DataFile| json!({ "file": file.path, "part": file.part.map(Part::name), "rows": file.n_rows });
        let fault = |fault: &crate::task::Fault| json!({ "id": fault.id, "score": fault.score, "reason": fault.reason });
        let mut value = json!({
            "schema": "llama-svf/task/1",
            "task": task.name(),
            "description": task.description(),
            "files": origin.files,
            "data": origin.data.iter().map(data).collect::<Vec<_>>(),
            "items": Part::ALL.iter().map(|&part| (part.name().into(), task.items(part).len().into()))
                .collect::<serde_json::Map<String, Value>>(),
            "reward": origin.reward,
            "generation": task.generation(),
            "notes": self.notes(),
            "example": {
                "id": example.id,
                "prompt": example.prompt,
                "gold": example.gold,
                "completion": example.completion,
            },
            "checked": check.n_checked,
            "faults": check.faults.iter().map(fault).collect::<Vec<_>>(),
        });
        if let Some(seen) = seen {
            value["example"]["rendered"] = json!(seen.text);
            value["example"]["tokens"] = json!(seen.tokens);
            value["example"]["pieces"] = json!(seen.pieces);
            value["longest_prompt"] = json!(seen.longest_prompt);
            value["longest_completion"] = json!(seen.longest_completion);
        }
        value
    }

    fn text(&self) -> String {
        let Self { task, example, seen, check } = self;
        let mut text = format!("{}: {}\n\n", task.name(), task.description());
        let mut line = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<10} {value}");
        };
        let origin = task.origin();
        if let [file, bases @ ..] = &origin.files[..] {
            let based = if bases.is_empty() { "" } else { ", based on " };
            line("file", &format!("{file}{based}{}", bases.join(", on ")));
        }
        for file in &origin.data {
            let part = file.part.map_or("to be split", Part::name);
            line("rows", &format!("{} of {} ({part})", file.n_rows, file.path.display()));
        }
        if origin.data.is_empty() {
            line("rows", "generated");
        }
        let sizes = Part::ALL.map(|part| format!("{} {}", task.items(part).len(), part.name()));
        line("items", &sizes.join(", "));
        line("reward", &origin.reward);
        line("answers", &self.answers());
        for note in self.notes() {
            line("note", &note);
        }
        let framed = |title: &str, text: &str| {
            format!("\n{title:-<80}\n{}\n{:-<80}\n", visible(text.trim_end_matches('\n')), "")
        };
        match seen {
            None => text += &framed(&format!("-- prompt of {} ", example.id), &example.prompt),
            Some(seen) => {
                text += &framed(&format!("-- prompt of {}, as the model sees it ", example.id), &seen.text);
                text += &format!("{} tokens: {}\n", seen.tokens.len(), abridged(&seen.pieces));
            }
        }
        text += &framed("-- gold completion ", &example.completion);
        let _ = writeln!(text, "gold answer: {}\n", visible(example.gold.trim()));
        let n_right = check.n_checked - check.faults.len();
        let _ = writeln!(text, "{n_right} of {} gold completions score 1", check.n_checked);
        for fault in check.faults.iter().take(N_SHOWN) {
            let _ = writeln!(text, "  {} scores {}: {}", fault.id, fault.score, fault.reason);
        }
        if check.faults.len() > N_SHOWN {
            let _ = writeln!(text, "  … and {} more (--json lists all)", check.faults.len() - N_SHOWN);
        }
        text
    }

    fn answers(&self) -> String {
        let generation = self.task.generation();
        let mut text = format!("at most {} tokens", generation.max_tokens);
        text += if generation.chat { ", in the model's chat template" } else { ", without a chat template" };
        if let Some(system) = &generation.system {
            text += &format!(", system message {system:?}");
        }
        if !generation.stop.is_empty() {
            let stops: Vec<_> = generation.stop.iter().map(|stop| format!("{stop:?}")).collect();
            text += &format!(", ended by {}", stops.join(" or "));
        }
        text
    }
}

/// Data is not ours: nothing in it may move the cursor.
fn visible(text: &str) -> String {
    let is_hidden = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let text = text.replace("\r\n", "\n");
    text.chars().map(|c| if is_hidden(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The first and the last of `pieces`, where templates put what matters.
fn abridged(pieces: &[String]) -> String {
    const N: usize = 16;
    let quoted =
        |pieces: &[String]| pieces.iter().map(|piece| format!("{piece:?}")).collect::<Vec<_>>().join(" ");
    match pieces.len() > 2 * N {
        true => format!("{} … {}", quoted(&pieces[..N]), quoted(&pieces[pieces.len() - N..])),
        false => quoted(pieces),
    }
}
