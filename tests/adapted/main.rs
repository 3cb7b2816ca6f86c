//! Models that run with experts: see each module.

#[path = "../common/random_model.rs"]
mod random_model;

mod batch;
mod choice;
mod equality;
mod events;
mod export;
mod few_shot;
mod gpu;
mod gradient;
mod models;
mod oracle;
mod pooling;
mod reading;
mod scheduler;
mod slots;
mod transfer;
