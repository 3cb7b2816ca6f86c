//! Models that run with experts: see each module.

#[path = "../common/random_model.rs"]
mod random_model;

mod batch;
mod equality;
mod gradient;
mod models;
mod oracle;
mod slots;
