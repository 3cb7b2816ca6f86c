//! `llama-svf run`: complete one prompt, or chat, with the base model or a mixture of experts.

mod adapt;
mod chat;
mod replies;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::adapt_args::AdaptArgs;
use super::experts::{open_expert, Adapter, ExpertArgs};
use super::inputs::ModelFile;
use super::lora_args::LoraArgs;
use super::runtime_args::ChatModelArgs;
use super::sampler_args::SamplerArgs;
use super::{ctrl_c, printer};
use crate::dispatch::{AdaptPrompt, Adaptive};
use crate::engine::scheduler::Ended;
use crate::engine::{ChatMessage, Model, SamplerOptions, Scheduler, SessionOptions};
use crate::error::{exit, Error, Result};
use crate::expert::Mixture;
use replies::{Engine, Pass1, Prompt, Replies, Reply};

/// Run a model, with experts or without
///
/// With -p the prompt is completed as given, or answered with the model's chat template (--chat). Without
/// -p, on a terminal, it is a chat.
///
/// With --adapt each prompt is read twice: first to choose one of the loaded experts, or `other` for the base model, and
/// then to answer as the choice would have without it. Experts need names that differ in more than capitals; one
/// without a description is known to the model by its name only. A prompt that says which expert to choose may be obeyed,
/// but never gets anything else than one of them or the base model.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf run -m model.gguf -p 'Once upon a time'\n  \
    llama-svf run -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --use maths -p '2 + 2 ='\n  \
    llama-svf run -m model.gguf --svf model.svf.gguf --expert a=x.gguf --expert b=y.gguf --mix a=0.7,b=0.3\n  \
    llama-svf run -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --expert code.expert.gguf --adapt prompt \\\n    \
    --chat -p 'What is 12 * 12?'\n  \
    llama-svf run -m model.gguf --lora maths.lora.gguf -p '2 + 2 ='          an adapter of llama.cpp's format\n  \
    llama-svf run -m model.gguf --chat -p 'Who are you?' --temp 0 --json\n  \
    llama-svf run --adapt classifier --chat --temp 0 -p 'What does this print? print(2 + 3)'")]
pub struct Args {
    /// The model, a GGUF file [default: the embedded model, which knows the questions of its skills only]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Complete this prompt
    #[arg(short, long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Use the model's chat template; without -p, messages are read line by line
    #[arg(long)]
    chat: bool,
    /// What a chat's system message says, which directs all replies
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    #[command(flatten)]
    experts: ExpertArgs,
    #[command(flatten)]
    adapt: AdaptArgs,
    #[command(flatten)]
    lora: LoraArgs,

    /// Most tokens to generate; -1 for no limit
    #[arg(
        short = 'n',
        long = "predict",
        value_name = "N",
        default_value_t = 128,
        allow_negative_numbers = true
    )]
    n_predict: i64,
    /// Tokens of context; 0 for as many as the model was trained with [default: that, at most 4096]
    #[arg(short, long = "ctx-size", value_name = "N")]
    ctx_size: Option<u32>,
    /// Most prompt tokens per call of llama.cpp
    #[arg(short, long, value_name = "N", default_value_t = 2048)]
    batch_size: u32,
    /// Most prompt tokens computed at once (also -ub)
    #[arg(long, value_name = "N", default_value_t = 512)]
    ubatch_size: u32,
    #[command(flatten)]
    device: ChatModelArgs,

    #[command(flatten)]
    sampler: SamplerArgs,

    /// Print one JSON object instead of the text
    #[arg(long, requires = "prompt")]
    json: bool,
}

/// Context that an unasked user gets at most: models trained with 128k tokens would need many gigabytes.
const DEFAULT_CONTEXT: u32 = 4096;
/// llama.cpp rounds a sequence's KV cache up to a multiple of so many tokens.
const CELLS: u32 = 256;

pub fn main(args: &Args) -> Result<u8> {
    let file = ModelFile::new(args.model.as_deref())?;
    let checked = args.check(&file)?;
    let seed = checked.sampler.seed;
    let is_chat = args.chat || args.prompt.is_none();
    if args.prompt.is_none() && !args.chat && !std::io::stdin().is_terminal() {
        return Err(Error::invalid("no prompt")
            .field("-p")
            .hint("give one with -p TEXT, or --chat to read messages from standard input"));
    }

    if args.system.is_some() && !is_chat {
        return Err(Error::invalid("a plain prompt has no system message")
            .field("--system")
            .hint("add --chat"));
    }

    let began = Instant::now();
    let model = args.device.load(file.path())?;
    if is_chat {
        model.check_chat_template().map_err(|error| {
            error.hint(
                "give one with --chat-template, such as chatml, or complete a plain prompt with -p and without --chat",
            )
        })?;
    }
    let mut replies = args.start(&model, checked)?;
    let load_ms = milliseconds(began);

    let system: Vec<_> = args.system.iter().map(ChatMessage::system).collect();
    let Some(prompt) = &args.prompt else {
        return chat::main(replies, args.experts.chosen.strength(), system);
    };
    let (tokens, thinking) = if is_chat {
        let prompt = model.chat_prompt(&[system, vec![ChatMessage::user(prompt.as_str())]].concat())?;
        (prompt.tokens, prompt.thinking)
    } else {
        (model.tokenize(prompt, true, true)?, None)
    };
    let reply = replies.reply(Prompt { question: prompt, tokens, thinking }, |text| {
        if args.json {
            return Ok(());
        }
        printer::print(text)
    })?;
    if args.json {
        printer::print_json(&Summary::new(&reply, replies.mixture(), seed, load_ms))?;
    } else {
        printer::print("\n")?;
    }
    if let Some(pass1) = &reply.pass1 {
        printer::note(pass1.describe(reply.ms()));
    }
    printer::note(format_args!("{}, seed {seed}", describe(&reply, replies.mixture())));
    Ok(if reply.ended == Ended::Cancelled { exit::INTERRUPTED } else { exit::DONE })
}

/// What the flags name, checked.
struct Checked {
    sampler: SamplerOptions,
    mixture: Mixture,
    adapt_prompt: Option<AdaptPrompt>,
    experts: Option<Adapter>,
}

impl Args {
    /// What can be wrong with the flags is found before a model of many gigabytes is loaded.
    fn check(&self, file: &ModelFile) -> Result<Checked> {
        // In a chat the embedded model's experts may be called by name at any time.
        let is_own = matches!(file, ModelFile::Embedded(_));
        let has_lora = self.lora.path().is_some();
        if has_lora && (self.adapt.is_on() || self.experts.is_any_given()) {
            return Err(Error::invalid("a LoRA adapter runs without experts")
                .field("--lora")
                .hint("leave out the flags about experts"));
        }
        self.lora.check()?;
        let are_at_hand = self.adapt.is_on() || is_own && self.prompt.is_none() && !has_lora;
        Ok(Checked {
            sampler: self.sampler.options()?,
            mixture: self.experts.chosen.mixture(self.adapt.is_on())?,
            adapt_prompt: self.adapt.prompt()?,
            experts: self.experts.open(file, are_at_hand, self.device.n_threads()?)?,
        })
    }

    /// What answers, and chooses its experts if it is to.
    fn start(&self, model: &Arc<Model>, checked: Checked) -> Result<Replies> {
        let Checked { sampler, mixture, adapt_prompt, experts } = checked;
        let limit = usize::try_from(self.n_predict).ok();
        let options = self.session(model)?;
        let Some(joined) = experts.map(|experts| experts.join(model)).transpose()? else {
            let lora = self.lora.load(model)?;
            let scheduler = Scheduler::with_loras(model, 1, &options, lora.as_slice())?;
            return Ok(Replies::new(Engine::Plain(scheduler), sampler, limit, 0));
        };
        let dispatcher = self.adapt.dispatcher(model, &joined.expert_set()?, adapt_prompt)?;
        let mut room = 0;
        let mut options = options;
        if let Some(dispatcher) = &dispatcher {
            // One for pass 1, so that a conversation is read again only when its mixture changes.
            let n_seq = 2;
            // What pass 1 reads besides a question, in steps of the KV cache's size.
            let wanted = dispatcher.n_ctx_seq(model, &[""])?;
            room = u32::try_from(wanted).unwrap_or(u32::MAX / 2).next_multiple_of(CELLS);
            let n_ctx = if options.n_ctx == 0 { model.n_ctx_train() } else { options.n_ctx };
            options = SessionOptions {
                n_ctx: n_ctx.saturating_add(room).saturating_mul(n_seq),
                n_seq,
                // What pass 1 holds changes nothing for the replies.
                kv_unified: false,
                ..options
            };
        }
        let scheduler = joined.scheduler_with(1, &options)?;
        let Some(dispatcher) = dispatcher else {
            let mut replies = Replies::new(Engine::Plain(scheduler), sampler, limit, 0);
            replies.use_mixture(mixture)?;
            return Ok(replies);
        };
        let adaptive = Adaptive::new(scheduler, dispatcher, self.experts.chosen.strength());
        Ok(Replies::new(Engine::Adaptive(Box::new(adaptive)), sampler, limit, room as usize))
    }

    fn session(&self, model: &Model) -> Result<SessionOptions> {
        let defaults = SessionOptions::default();
        let options = SessionOptions {
            n_ctx: self.ctx_size.unwrap_or(model.n_ctx_train().min(DEFAULT_CONTEXT)),
            n_batch: self.batch_size,
            n_ubatch: self.ubatch_size,
            n_threads: self.device.n_threads()?,
            ..defaults
        };
        if options.n_ctx > model.n_ctx_train() {
            printer::note(format_args!(
                "note: the model was trained with {} tokens of context; beyond them it may write nonsense",
                model.n_ctx_train()
            ));
        }
        Ok(options)
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary<'a> {
    schema: &'static str,
    text: &'a str,
    n_prompt: usize,
    n_generated: usize,
    mixture: BTreeMap<&'a str, f32>,
    #[serde(flatten)]
    adaptation: Option<Adaptation<'a>>,
    /// `end` of text, `length` reached, `context` full, or `interrupted`.
    stop: &'static str,
    seed: u32,
    load_ms: f64,
    prompt_ms: f64,
    generate_ms: f64,
    tokens_per_second: Option<f64>,
}

/// What `--json` has more with `--adapt`.
#[derive(Serialize)]
struct Adaptation<'a> {
    strategy: &'static str,
    /// The label that was chosen, also where the threshold overruled it.
    label: &'a str,
    confidence: f64,
    fallback: bool,
    probabilities: BTreeMap<&'a str, f64>,
    pass1_tokens: usize,
    pass1_ms: f64,
    /// Of both passes.
    pass1_share: f64,
    pass2_ms: f64,
}

impl<'a> Adaptation<'a> {
    fn new(pass1: &'a Pass1, pass2_ms: f64) -> Self {
        let Pass1 { strategy, decision, cost } = pass1;
        Self {
            strategy,
            label: &decision.label,
            confidence: decision.confidence,
            fallback: decision.is_fallback,
            probabilities: decision.probabilities.iter().map(|(name, p)| (name.as_str(), *p)).collect(),
            pass1_tokens: cost.n_tokens,
            pass1_ms: cost.ms,
            pass1_share: pass1.share(pass2_ms),
            pass2_ms,
        }
    }
}

impl<'a> Summary<'a> {
    fn new(reply: &'a Reply, mixture: &'a Mixture, seed: u32, load_ms: f64) -> Self {
        Self {
            schema: "llama-svf/run/1",
            text: &reply.text,
            n_prompt: reply.usage.n_prompt,
            n_generated: reply.n_generated,
            mixture: mixture.weights().collect(),
            adaptation: reply.pass1.as_ref().map(|pass1| Adaptation::new(pass1, reply.ms())),
            stop: match reply.ended {
                Ended::End | Ended::Stop => "end",
                Ended::Length => "length",
                Ended::Context => "context",
                Ended::Cancelled => "interrupted",
            },
            seed,
            load_ms,
            prompt_ms: reply.prompt_ms(),
            generate_ms: reply.generate_ms(),
            tokens_per_second: reply.tokens_per_second(),
        }
    }
}

/// One line about a reply.
fn describe(reply: &Reply, mixture: &Mixture) -> String {
    let speed = reply.tokens_per_second().map_or(String::new(), |speed| format!(" at {speed:.1} tokens/s"));
    let stop = match reply.ended {
        Ended::End | Ended::Stop | Ended::Length => "",
        Ended::Context => ", stopped because the context is full (hint: a larger -c)",
        Ended::Cancelled => ", interrupted",
    };
    format!(
        "[{} prompt tokens in {:.0} ms, {} generated{speed}{stop}, mixture: {mixture}]",
        reply.usage.n_prompt,
        reply.prompt_ms(),
        reply.n_generated
    )
}
