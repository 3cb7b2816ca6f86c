//! llama-svf: self-adaptive LLMs (Transformer², arXiv 2501.06252) for llama.cpp.
//!
//! A frozen linear layer W `[n_out, n_in]` is decomposed once, W = U·diag(σ)·Vᵀ. An *expert* is one
//! vector m per layer that multiplies σ; a *mixture* is m = 1 + Σ αᵢ·(mᵢ − 1). At inference each
//! adapted layer runs through the ggml op in `kernels/`, with the mixture of each sequence chosen by
//! its *slot*.
//!
//! # Load, adapt, stream
//!
//! A model with its sidecar and experts answers a question: pass 1 chooses the expert, pass 2 answers with it, piece by
//! piece. Here it is the model that comes with the library ([`embedded`]); with files of your own the first lines are
//! `Model::load(path, 99)`, `Sidecar::open(path)` and `Expert::open(path)`.
//!
//! ```
//! use llama_svf::dispatch::{AdaptPrompt, Adaptive, Dispatcher, Options};
//! use llama_svf::engine::scheduler::{Event, Generate};
//! use llama_svf::engine::{AdaptedModel, ChatMessage, Model, ModelWithExperts};
//! # use llama_svf::{decompose, embedded, progress::{Interrupt, Silent}};
//! # fn main() -> llama_svf::error::Result<()> {
//! # let files = embedded::Temporary::new()?;
//! let model = Model::load(files.path(), 99)?;
//! let adapted = AdaptedModel::new(&model, decompose::embedded(&files, 2, &Silent, &Interrupt::new())?)?;
//! let experts = ModelWithExperts::residual(adapted, files.experts()?);
//! let prompt = AdaptPrompt::embedded(); // AdaptPrompt::general() for any other model
//! let dispatcher = Dispatcher::new(&experts.expert_set()?, prompt, Options::default())?;
//! let adaptive = Adaptive::new(experts.scheduler(4, 512, 2)?, dispatcher, 1.0);
//!
//! let question = ChatMessage::user("Mia has 12 pens. Mia finds 4. How many pens does Mia have?");
//! let mut reply = adaptive.answer(&[question], Generate::greedy(64))?;
//! println!("{} answers:", reply.decision.label);
//! while let Some(event) = reply.ticket.next_event() {
//!     if let Event::Piece(piece) = event? {
//!         print!("{}", piece.text);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A mixture for each request
//!
//! A [`Scheduler`](engine::Scheduler) works on any number of requests at once, each with a mixture of its own. Dropping a
//! [`Ticket`](engine::Ticket) cancels its request; [`error::Error::kind`] tells a full queue from a bad request.
//!
//! ```
//! use llama_svf::engine::scheduler::Generate;
//! use llama_svf::engine::{AdaptedModel, Model, ModelWithExperts, Request};
//! use llama_svf::expert::Mixture;
//! # use llama_svf::{decompose, embedded, progress::{Interrupt, Silent}};
//! # fn main() -> llama_svf::error::Result<()> {
//! # let files = embedded::Temporary::new()?;
//! # let model = Model::load(files.path(), 99)?;
//! # let adapted = AdaptedModel::new(&model, decompose::embedded(&files, 2, &Silent, &Interrupt::new())?)?;
//! # let experts = ModelWithExperts::residual(adapted, files.experts()?);
//! let scheduler = experts.scheduler(4, 512, 2)?;
//! let prompt = model.tokenize("print(2 + 3)", true, false)?;
//! let mixtures = [Mixture::base(), Mixture::single("code"), Mixture::parse("code=0.6,math=0.4")?];
//! let submit = |mixture| scheduler.submit(Request::generate(prompt.clone(), mixture, Generate::greedy(8)));
//! let tickets = mixtures.into_iter().map(submit).collect::<llama_svf::error::Result<Vec<_>>>()?;
//! for ticket in tickets {
//!     println!("{}", ticket.completion()?.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Measuring
//!
//! ```
//! use llama_svf::eval::{Choice, Questions, Runner};
//! use llama_svf::progress::{Interrupt, Silent};
//! use llama_svf::task::{LoadOptions, Part, Task};
//! # use llama_svf::{decompose, embedded, engine::{AdaptedModel, Model, ModelWithExperts}, expert::Mixture};
//! # fn main() -> llama_svf::error::Result<()> {
//! # let files = embedded::Temporary::new()?;
//! # let model = Model::load(files.path(), 99)?;
//! # let adapted = AdaptedModel::new(&model, decompose::embedded(&files, 2, &Silent, &Interrupt::new())?)?;
//! # let experts = ModelWithExperts::residual(adapted, files.experts()?);
//! let task = Task::load("math", &LoadOptions::default())?;
//! let questions = Questions::new(&model, &task, &task.items(Part::Test)[..20])?;
//! let runner = Runner::new(&model, Some(&experts), 16, 2);
//! let choices = [Choice::Fixed(Mixture::single("math")), Choice::Fixed(Mixture::base())];
//! let measured = runner.measure(&questions, &choices, &Silent, &Interrupt::new())?;
//! println!("{:+.2} for the expert", measured.evaluation.compare(0, 1).delta);
//! # Ok(())
//! # }
//! ```
//!
//! An expert of your own is trained by [`train`], and a mixture for a task is found by [`few_shot`].
//!
//! # The house
//!
//! A request walks down one room after the other:
//!
//! ```text
//! Request ──► engine::scheduler   waits, gets a sequence; its tokens join everyone's batch; events come back
//!                   │
//!             engine::session     sequences and slots of one context: no mixture changes under what was read with it
//!                   │
//!             ffi::context        llama_decode, with the adapted layers hooked into the graph
//!                   │
//!             kernels/            U·(s ⊙ (Vᵀ·x)) for each token's own s, on CPU, CUDA or Metal
//! ```
//!
//! Imports go downwards only:
//!
//! | layer | modules |
//! |---|---|
//! | command line | `cli` |
//! | answering over a network | [`server`] |
//! | work on whole models | [`decompose`], [`dispatch`], [`eval`], [`few_shot`], [`train`], [`report`], [`mod@bench`] |
//! | gradients of a model's experts | [`gradient`] |
//! | running a model with experts | [`engine`] |
//! | items to answer, and the score of an answer | [`task`], [`reward`] |
//! | experts for other programs | [`export`] |
//! | files and their validation; a model to try | [`sidecar`], [`expert`], [`embedded`] |
//! | the edge to ggml and llama.cpp, the only `unsafe` | [`ffi`] |
//! | pure mathematics; the embedded model's world | [`svd`], [`cem`], [`optimiser`], [`skills`] |
//! | drawing | [`page`] |
//! | work that goes on where it was interrupted | [`resume`] |
//! | errors, progress, whole-or-not-at-all writes, temporary files | [`error`], [`progress`], [`atomic`], [`temporary`] |
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod atomic;
pub mod bench;
pub mod cem;
#[cfg(feature = "cli")]
pub mod cli;
pub mod decompose;
pub mod dispatch;
pub mod embedded;
pub mod engine;
pub mod error;
pub mod eval;
pub mod expert;
pub mod export;
#[cfg(test)]
mod faults;
pub mod few_shot;
pub mod ffi;
pub mod gradient;
pub mod optimiser;
pub mod page;
pub mod progress;
pub mod report;
pub mod resume;
pub mod reward;
#[cfg(feature = "serve")]
pub mod server;
pub mod sidecar;
pub mod skills;
pub mod svd;
pub mod task;
pub mod temporary;
pub mod train;
