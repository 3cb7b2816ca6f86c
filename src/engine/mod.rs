//! Running a model with experts: load it, open sessions, give each sequence a slot and each slot a
//! mixture, decode.
//!
//! ```text
//! Model ──┬── AdaptedModel (Model + Sidecar: the factors, shared) ── Joined (with the experts that were loaded)
//!         └── Session (one llama.cpp context: KV cache, slots, experts)
//! ```

mod batch;
mod chat;
mod check;
mod joined;
mod model;
mod placement;
mod prefill;
mod reader;
mod sampler;
mod session;

pub use batch::{complete, log_prob, sessions_for, Completion, Ended, Request};
pub(crate) use chat::control::RESERVED;
pub use chat::{ChatMessage, ChatPrompt, Thinking};
pub use joined::Joined;
pub use model::{AdaptedModel, Model, Token};
pub use placement::Placement;
pub use prefill::{prefill, Prompt};
pub use reader::Reader;
pub use sampler::{Sampler, SamplerOptions};
pub use session::{AdapterOptions, Input, KvType, Session, SessionOptions};

pub use crate::ffi::context::{Form, GraphOp, Lora};
