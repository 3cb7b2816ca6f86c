//! REINFORCE for SVF (paper, section 3.1): one expert learnt from rewards alone, on the model that inference
//! runs. To compare with, a LoRA beside the same weights is learnt in the same way, and either from the likelihood of gold
//! answers in the place of rewards.
//!
//! ```text
//!  raw ─ Parametrisation ─► m, or A and B ─ Policy ─► answers, rewards ─ Baseline ─► advantages
//!   ▲                                                                                  │
//!   └──── AdamW ◄── clip ◄── chain rule ◄── gradient ◄──────── Estimator ◄─────────────┘
//! ```
//!
//! [`Training`] puts a run together, [`Run`] is the loop, [`Trained`] is what comes of it. A [`Policy`] answers items:
//! [`ModelPolicy`] with llama.cpp, toys in tests. An [`Estimator`] turns answers into a gradient: [`Exact`] by the chain
//! rule, [`Evolution`] by trying. A step is as long as the change of the answers allows (`trust_region`). Everything random is a function of the seed and the step ([`draws`]), and a [`State`]
//! holds all the rest, so that a run which goes on from a checkpoint does what it would have done.

pub mod checkpoint;
pub mod control;
pub mod draws;
pub mod estimator;
pub mod evolution;
mod exact;
mod folder;
pub mod groups;
mod layers;
pub mod log;
pub mod memory;
mod model_policy;
mod names;
mod objective;
mod options;
mod parametrisation;
pub mod policy;
pub mod report;
mod run;
mod state;
mod trained;
mod training;
mod trust_region;
pub mod validation;

pub use control::RandomReward;
pub use estimator::{Estimate, Estimator, Step};
pub use evolution::{Evolution, Grouping};
pub use exact::Exact;
pub use folder::Folder;
pub use groups::Baseline;
pub use layers::Layers;
pub use model_policy::{ModelOptions, ModelPolicy};
pub use names::{EstimatorName, RewardName};
pub use objective::Objective;
pub use options::Options;
pub use parametrisation::{Parametrisation, Weight};
pub use policy::{Answer, Answers, Policy, Wanted};
pub use run::{Ended, Run};
pub use state::{mean, Best, State};
pub use trained::Trained;
pub use training::{Training, TrainingOptions};
