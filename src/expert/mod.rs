//! The expert file `NAME.expert.gguf`: one multiplier vector per adapted weight, checked when opened.
//!
//! A GGUF file with the metadata `general.type` = `adapter`, `adapter.type` = `svf-expert`, `svf.version`,
//! `svf.base.fingerprint`, `general.name`, `general.description`, the checksums of [`crate::sidecar::seal`],
//! and, if it was trained, all of `svf.training.{task,steps,validation_before,validation_after,seed}`; if only some layers
//! were, `svf.training.layers` says which.
//! Each tensor is an F32 vector m of ne `[r]`, named like the weight whose σ it multiplies. A weight
//! that is missing keeps m = 1.
//!
//! Where the file says for which questions the expert is ([`Profile`]), it also has `svf.profile.questions`, some of them,
//! and `svf.profile.layer` with the matrices `svf.profile.own` and `svf.profile.other` of ne `[n_embd, n]`, hidden states
//! in Q8_0 (F16 where rows do not fit its blocks). Every byte of all tensors is covered by a checksum.

mod folder;
pub mod mixture;
mod multipliers;
pub mod profile;
pub mod set;
pub mod transfer;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::atomic;
use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, TensorInfo};
use crate::ffi::tensor_type::TensorType;
use crate::resume::Digest;
use crate::sidecar::header::new_header;
use crate::sidecar::{self, seal, Fingerprint, Sidecar};

pub use folder::open_folder;
pub use mixture::Mixture;
pub use multipliers::Multipliers;
pub use profile::Profile;
pub use set::{Contents, ExpertSet, ResolvedMixture};

const ADAPTER_TYPE: &str = "svf-expert";
const NAME: &str = "general.name";
const DESCRIPTION: &str = "general.description";
const TASK: &str = "svf.training.task";
const STEPS: &str = "svf.training.steps";
const VALIDATION_BEFORE: &str = "svf.training.validation_before";
const VALIDATION_AFTER: &str = "svf.training.validation_after";
const SEED: &str = "svf.training.seed";
const LAYERS: &str = "svf.training.layers";

/// Names must fit messages and command lines.
const MAX_NAME_CHARS: usize = 64;
/// A description is one line for people and for the dispatcher's prompt.
const MAX_DESCRIPTION_CHARS: usize = 512;
/// Multipliers in one expert; a full-rank expert of a 405B model has 14 million.
const MAX_MULTIPLIERS: usize = 1 << 26;

/// A named set of multipliers on σ.
#[derive(Clone, PartialEq, Debug)]
pub struct Expert {
    /// Unique among the experts loaded together; see [`check_name`].
    pub name: String,
    /// One line: what the expert is good at.
    pub description: String,
    /// Which base model it belongs to.
    pub fingerprint: Fingerprint,
    /// m by weight name, finite, one number per component of the sidecar's weight.
    pub multipliers: BTreeMap<String, Vec<f32>>,
    /// How it was trained, if it was.
    pub training: Option<Training>,
    /// Which questions it is for.
    pub profile: Profile,
}

/// Where an expert comes from.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Training {
    /// The task it was trained on.
    pub task: String,
    /// Optimiser steps.
    pub steps: u64,
    /// Score on the validation split before the first step.
    pub validation_before: f32,
    /// Score on the validation split of the multipliers saved.
    pub validation_after: f32,
    /// Seed of the run.
    pub seed: u64,
    /// The layers that were trained, such as `8-15`, if not all were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<String>,
}

impl Expert {
    /// The expert that changes nothing: m = 1 for every weight of `sidecar`.
    pub fn identity(name: &str, sidecar: &Sidecar) -> Self {
        let ones = |weight: &sidecar::AdaptedWeight| (weight.name.clone(), vec![1.0; weight.rank]);
        Self {
            name: name.to_owned(),
            description: String::from("changes nothing"),
            fingerprint: sidecar.fingerprint.clone(),
            multipliers: sidecar.weights.iter().map(ones).collect(),
            training: None,
            profile: Profile::default(),
        }
    }

    /// An expert with the multipliers `m`, which have the shape of `sidecar`.
    pub fn of_multipliers(name: &str, sidecar: &Sidecar, m: &Multipliers) -> Self {
        let names = sidecar.weights.iter().map(|weight| weight.name.clone());
        Self {
            multipliers: names.zip(m.iter().map(<[f32]>::to_vec)).collect(),
            ..Self::identity(name, sidecar)
        }
    }

    /// Opens and checks `path`, reading all of it.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or is no expert.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = || {
            let file = GgufFile::open(path)?;
            let expert = Self::read(&file)?;
            expert.validate()?;
            Ok(expert)
        };
        read().map_err(|error: Error| error.file(path).hint("get the expert again, or train it again"))
    }

    fn read(file: &GgufFile) -> Result<Self> {
        sidecar::check_kind(file, ADAPTER_TYPE, "an expert")?;
        let checksums = seal::check_header(file)?;
        let is_m = |tensor: &&TensorInfo| !tensor.name.starts_with(profile::PREFIX);
        let n_multipliers: usize = file.tensors().iter().filter(is_m).map(TensorInfo::n_elements).sum();
        if n_multipliers > MAX_MULTIPLIERS {
            return Err(Error::expected(format!("at most {MAX_MULTIPLIERS} multipliers"), n_multipliers));
        }
        let mut multipliers = BTreeMap::new();
        for (tensor, checksum) in file.tensors().iter().zip(checksums) {
            seal::check_data(file, tensor, checksum)?;
            if !is_m(&tensor) {
                continue;
            }
            if tensor.ty != TensorType::F32 || tensor.n_dims != 1 {
                return Err(Error::expected("an f32 vector", format!("{} {}", tensor.ty, tensor.shape()))
                    .field(format!("tensor {}", tensor.name)));
            }
            multipliers.insert(tensor.name.clone(), file.to_f32(tensor)?);
        }
        let training = match file.str(TASK)? {
            None => None,
            Some(task) => Some(Training {
                task: task.to_owned(),
                steps: require(file.u64(STEPS)?, STEPS)?,
                validation_before: require(file.f32(VALIDATION_BEFORE)?, VALIDATION_BEFORE)?,
                validation_after: require(file.f32(VALIDATION_AFTER)?, VALIDATION_AFTER)?,
                seed: require(file.u64(SEED)?, SEED)?,
                layers: file.str(LAYERS)?.map(str::to_owned),
            }),
        };
        Ok(Self {
            name: file.require_str(NAME)?.to_owned(),
            description: file.require_str(DESCRIPTION)?.to_owned(),
            fingerprint: sidecar::require_fingerprint(file)?,
            multipliers,
            training,
            profile: Profile::read(file)?,
        })
    }

    /// Writes the expert to `path`, which is replaced as a whole or not touched.
    ///
    /// # Errors
    /// The name or description is not allowed, a multiplier is not finite, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.save_checked(path).map_err(|error| error.file(path))
    }

    fn save_checked(&self, path: &Path) -> Result<()> {
        self.validate()?;
        let mut header = new_header(ADAPTER_TYPE, &self.fingerprint)?;
        header.set_str(NAME, &self.name)?;
        header.set_str(DESCRIPTION, &self.description)?;
        if let Some(training) = &self.training {
            header.set_str(TASK, &training.task)?;
            header.set_u64(STEPS, training.steps)?;
            header.set_f32(VALIDATION_BEFORE, training.validation_before)?;
            header.set_f32(VALIDATION_AFTER, training.validation_after)?;
            header.set_u64(SEED, training.seed)?;
            if let Some(layers) = &training.layers {
                header.set_str(LAYERS, layers)?;
            }
        }
        let mut data = Vec::new();
        for (weight, m) in &self.multipliers {
            header.add_tensor(weight, &[m.len()], TensorType::F32)?;
            data.push((weight.as_str(), m.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()));
        }
        data.extend(self.profile.write(&mut header)?);
        let checksums: Vec<_> = data.iter().map(|(_, bytes)| blake3::hash(bytes)).collect();
        let encoded = seal::encode(&mut header, &checksums)?;
        atomic::write(path, |out| {
            out.write_all(&encoded)?;
            let mut written = encoded.len();
            for (tensor, bytes) in &data {
                let offset = header.data_offset(tensor).unwrap_or(written);
                out.write_all(&vec![0; offset - written])?;
                out.write_all(bytes)?;
                written = offset + bytes.len();
            }
            out.write_all(&vec![0; header.total_size() - written])
        })
    }

    /// Changes with the multipliers, and with the base model that they are for.
    pub fn digest(&self) -> String {
        let mut digest = Digest::new();
        digest.text("fingerprint", self.fingerprint.as_str());
        for (weight, m) in &self.multipliers {
            digest.text("weight", weight).floats("m", m);
        }
        digest.finish()
    }

    /// Checks that the expert was made for `sidecar`: the same base model, and for each of its weights as
    /// many multipliers as the sidecar has components.
    ///
    /// # Errors
    /// What does not fit, by name.
    pub fn check(&self, sidecar: &Sidecar) -> Result<()> {
        let ranks = sidecar.weights.iter().map(|weight| (weight.name.clone(), weight.rank)).collect();
        self.check_against(&sidecar.fingerprint, &ranks)
    }

    fn check_against(&self, fingerprint: &Fingerprint, ranks: &BTreeMap<String, usize>) -> Result<()> {
        self.validate()?;
        let named = |error: Error| error.field(format!("expert {}", self.name));
        if self.fingerprint != *fingerprint {
            let expected = format!("base model {}", fingerprint.short());
            return Err(named(
                Error::expected(expected, self.fingerprint.short())
                    .hint("this expert was trained for another model; use one for this model"),
            ));
        }
        for (weight, m) in &self.multipliers {
            let hint = "the expert was trained with another sidecar; use that one, or train again";
            let Some(&rank) = ranks.get(weight) else {
                return Err(named(
                    Error::invalid(format!("weight {weight} is not in the sidecar")).hint(hint),
                ));
            };
            if m.len() != rank {
                let expected = format!("{rank} multipliers for {weight}");
                return Err(named(Error::expected(expected, m.len()).hint(hint)));
            }
        }
        Ok(())
    }

    /// What must hold for an expert on its own.
    fn validate(&self) -> Result<()> {
        check_name(&self.name).map_err(|error| error.field(NAME))?;
        check_line(&self.description).map_err(|error| error.field(DESCRIPTION))?;
        if let Some(training) = &self.training {
            check_line(&training.task).map_err(|error| error.field(TASK))?;
            check_line(training.layers.as_deref().unwrap_or_default())
                .map_err(|error| error.field(LAYERS))?;
            for (key, value) in [
                (VALIDATION_BEFORE, training.validation_before),
                (VALIDATION_AFTER, training.validation_after),
            ] {
                if !value.is_finite() {
                    return Err(Error::expected("a finite number", value).field(key));
                }
            }
        }
        self.profile.validate()?;
        if self.multipliers.is_empty() {
            return Err(Error::expected("multipliers for at least one weight", "none").field("tensors"));
        }
        for (weight, m) in &self.multipliers {
            let field = || format!("tensor {weight}");
            if m.is_empty() {
                return Err(Error::expected("at least one multiplier", "none").field(field()));
            }
            if let Some(at) = m.iter().position(|x| !x.is_finite()) {
                let found = format!("{} at component {at}", m[at]);
                return Err(Error::expected("finite multipliers", found).field(field()));
            }
        }
        Ok(())
    }
}

/// Checks that `name` can name an expert: 1 to 64 letters, digits, `-`, `_` or `.`, so that it can stand in
/// `--mix A=0.7,B=0.3` and as a file name.
///
/// # Errors
/// Another name.
pub fn check_name(name: &str) -> Result<()> {
    let n_chars = name.chars().count();
    let is_fine = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if n_chars == 0 || n_chars > MAX_NAME_CHARS || !name.chars().all(is_fine) {
        let shown: String = name.chars().take(MAX_NAME_CHARS).collect();
        return Err(Error::expected(
            format!("an expert name of 1 to {MAX_NAME_CHARS} letters, digits, '-', '_' or '.'"),
            format!("'{shown}'"),
        )
        .hint("choose a name such as maths-1"));
    }
    Ok(())
}

/// Checks that `text` can describe an expert: one line that fits messages and the dispatcher's prompt.
///
/// # Errors
/// Another text.
pub fn check_line(text: &str) -> Result<()> {
    if text.chars().count() > MAX_DESCRIPTION_CHARS || text.chars().any(char::is_control) {
        return Err(Error::expected(
            format!("one line of at most {MAX_DESCRIPTION_CHARS} characters"),
            format!("{} characters", text.chars().count()),
        ));
    }
    Ok(())
}

fn require<T>(value: Option<T>, key: &str) -> Result<T> {
    value.ok_or_else(|| Error::expected("a value", "no such key").field(key))
}
