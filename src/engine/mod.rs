//! Running a model with experts: load it, open sessions, let a scheduler work on requests.
//!
//! ```text
//! Model ── AdaptedModel (with the factors of its sidecar, shared) ── ModelWithExperts (with the experts that were loaded)
//!                                                                      │ opens
//! Request ──► Scheduler ──► Session (one llama.cpp context: sequences with a slot each, slots with a mixture each)
//! ```

mod chat;
mod check;
mod grammar;
mod info;
mod lora_model;
mod model;
mod model_with_experts;
mod placement;
mod sampler;
pub mod scheduler;
mod session;

pub(crate) use chat::control::RESERVED;
pub use chat::{
    json_schema_grammar, AnswerMessage, ChatDelta, ChatMessage, ChatParser, ChatPrompt, ChatRequest,
    ChatSettings, ChatTurn, ReasoningFormat, Thinking, ToolCall, ToolCallDelta,
};
pub use grammar::{Grammar, Lazy};
pub use info::ModelInfo;
pub use lora_model::LoraModel;
pub use model::{AdaptedModel, Model, Token};
pub use model_with_experts::ModelWithExperts;
pub use placement::Placement;
pub use sampler::{
    log_probs, Dry, DynamicTemperature, Mirostat, Penalties, SamplerKind, SamplerOptions, Xtc,
};
pub use scheduler::{Request, Scheduler, Ticket};
#[cfg(test)]
pub(crate) use session::Refuses;
pub use session::{AdapterOptions, Input, KvType, Session, SessionOptions};

pub use crate::ffi::context::{Form, GraphOp, Lora};
pub use crate::ffi::model::Offload;
pub use crate::ffi::rpc::{Offer, RpcServer};
