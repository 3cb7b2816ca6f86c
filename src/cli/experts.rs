//! The flags that choose a sidecar, experts and a mixture, shared by the commands that run models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use super::inputs::{embedded_sidecar, ModelFile};
use super::printer;
use crate::engine::{AdaptedModel, Form, GraphOp, Model, ModelWithExperts};
use crate::error::{Error, Result};
use crate::expert::{open_folder, Expert, ExpertSet, Mixture, ResolvedMixture};
use crate::sidecar::Sidecar;

/// Which sidecar, experts and mixture.
#[derive(clap::Args)]
#[command(next_help_heading = "Experts")]
pub struct MixtureArgs {
    /// The model's sidecar, made by `llama-svf decompose` [default for the embedded model: its own, with its experts math,
    /// code, reasoning and cls]
    #[arg(long, value_name = "FILE")]
    svf: Option<PathBuf>,
    /// Load an expert, under another name if one is given; may be repeated
    #[arg(long, value_name = "[NAME=]FILE")]
    expert: Vec<String>,
    /// Use this expert
    #[arg(long = "use", value_name = "NAME", conflicts_with = "mix")]
    use_expert: Option<String>,
    /// Use a weighted sum of experts: A=0.7,B=0.3, or @FILE with {"A": 0.7, "B": 0.3}
    #[arg(long, value_name = "MIXTURE")]
    mix: Option<String>,
    /// Multiply every weight of the mixture: 0 is the base model [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    strength: Option<f32>,
}

/// The same, and how adapted layers run.
#[derive(clap::Args)]
#[command(next_help_heading = "Experts")]
pub struct ExpertArgs {
    #[command(flatten)]
    pub chosen: MixtureArgs,
    /// How adapted layers run: beside the base weight, or in its place (full-rank sidecars) [default: residual]
    #[arg(long, value_enum)]
    form: Option<FormFlag>,
    /// Implementation: one fused kernel, or stock ggml operations [default: auto]
    #[arg(long, value_enum)]
    op: Option<OpFlag>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum FormFlag {
    /// W*x + U*((s*(m-1)) * Vt*x): m = 1 is exactly the base model
    Residual,
    /// U*((s*m) * Vt*x)
    Factored,
}

#[derive(Clone, Copy, ValueEnum)]
enum OpFlag {
    /// Fused where the device has the kernel
    Auto,
    /// Our kernel
    Fused,
    /// Stock operations
    Composed,
}

impl FormFlag {
    pub fn form(self) -> Form {
        match self {
            Self::Residual => Form::Residual,
            Self::Factored => Form::Factored,
        }
    }
}

impl MixtureArgs {
    /// The mixture that the flags name. Where the model chooses later (`is_adapted`), their absence is no surprise.
    pub fn mixture(&self, is_adapted: bool) -> Result<Mixture> {
        let mixture = match (&self.use_expert, &self.mix) {
            (Some(name), _) => Mixture::single(name.as_str()),
            (None, Some(mix)) => Mixture::parse(mix).map_err(|error| error.field("--mix"))?,
            (None, None) => Mixture::base(),
        };
        let are_loaded = self.svf.is_some() || !self.expert.is_empty();
        if are_loaded && self.use_expert.is_none() && self.mix.is_none() && !is_adapted {
            let hint = if self.expert.is_empty() {
                "--expert FILE --use NAME"
            } else {
                "--use NAME, or --mix A=0.7,B=0.3"
            };
            printer::note(format_args!("note: no expert is in use, this is the base model (hint: {hint})"));
        }
        let hint = "1 leaves the mixture as it is, 0 is the base model";
        mixture.strength(self.strength()).map_err(|error| error.field("--strength").hint(hint))
    }

    /// Whether a mixture is named.
    pub fn is_chosen(&self) -> bool {
        self.use_expert.is_some() || self.mix.is_some()
    }

    /// For commands that find the mixture themselves.
    pub fn refuse_mixture(&self, command: &str) -> Result<()> {
        let given = [
            ("--use", self.use_expert.is_some()),
            ("--mix", self.mix.is_some()),
            ("--strength", self.strength.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => {
                Err(Error::invalid(format!("{command} finds the mixture itself")).field(*flag))
            }
            None => Ok(()),
        }
    }

    /// What scales the weights of a mixture.
    pub fn strength(&self) -> f32 {
        self.strength.unwrap_or(1.0)
    }

    /// Whether any of these flags is given.
    fn is_any_given(&self) -> bool {
        !self.expert.is_empty()
            || [&self.use_expert, &self.mix].into_iter().any(Option::is_some)
            || self.svf.is_some()
            || self.strength.is_some()
    }

    /// Opens the sidecar and the experts, and checks that they fit each other. The embedded model brings its own; an
    /// expert that is given replaces one of the same name.
    pub fn load(&self, model: &ModelFile, n_threads: u32) -> Result<Loaded> {
        let (sidecar, mut experts) = match (&self.svf, model) {
            (Some(svf), _) => (Sidecar::open(svf)?, Vec::new()),
            (None, ModelFile::Embedded(embedded)) => {
                (embedded_sidecar(embedded, n_threads)?, embedded.experts()?)
            }
            (None, ModelFile::Given(_)) => {
                return Err(Error::invalid("experts need the model's sidecar")
                    .field("--svf")
                    .hint("make one with `llama-svf decompose -m MODEL`"));
            }
        };
        let n_own = experts.len();
        let mut paths = vec![None; n_own];
        for argument in &self.expert {
            let (expert, path) = open_expert(argument)?;
            expert.check(&sidecar).map_err(|error| error.file(&path))?;
            match experts[..n_own].iter().position(|own| own.name == expert.name) {
                Some(own) => {
                    experts[own] = expert;
                    paths[own] = Some(path);
                }
                None => {
                    experts.push(expert);
                    paths.push(Some(path));
                }
            }
        }
        Ok(Loaded { sidecar, experts, paths })
    }
}

impl ExpertArgs {
    /// [`Self::adapter`], or `None` for the plain model where no flag is about experts and none `are_wanted` otherwise.
    pub fn open(&self, model: &ModelFile, are_wanted: bool, n_threads: u32) -> Result<Option<Adapter>> {
        (self.is_any_given() || are_wanted).then(|| self.adapter(model, n_threads)).transpose()
    }

    /// Whether any of these flags is given.
    pub fn is_any_given(&self) -> bool {
        self.chosen.is_any_given() || self.form.is_some() || self.op.is_some()
    }

    /// What [`MixtureArgs::load`] finds, and how it is to run.
    pub fn adapter(&self, model: &ModelFile, n_threads: u32) -> Result<Adapter> {
        let form = self.form.map_or(Form::Residual, FormFlag::form);
        let op = match self.op {
            None | Some(OpFlag::Auto) => GraphOp::Auto,
            Some(OpFlag::Fused) => GraphOp::Fused,
            Some(OpFlag::Composed) => GraphOp::Composed,
        };
        Ok(Adapter { loaded: self.chosen.load(model, n_threads)?, form, op })
    }
}

/// A sidecar and the experts that are loaded for it, which fit.
pub struct Loaded {
    pub sidecar: Sidecar,
    experts: Vec<Expert>,
    /// Where each is from; `None` for those that come with the embedded model.
    paths: Vec<Option<PathBuf>>,
}

impl Loaded {
    /// `mixture` of the experts.
    pub fn resolve(&self, mixture: &Mixture) -> Result<ResolvedMixture> {
        let mut experts = ExpertSet::new(&self.sidecar);
        self.experts.iter().cloned().try_for_each(|expert| experts.insert(expert))?;
        experts.resolve(mixture)
    }
}

/// What the flags name, checked, before any model is loaded.
pub struct Adapter {
    loaded: Loaded,
    form: Form,
    op: GraphOp,
}

impl Adapter {
    /// The experts, each with its file, if it is from one.
    pub fn named(&self) -> impl Iterator<Item = (&str, Option<&Path>)> {
        self.loaded
            .experts
            .iter()
            .zip(&self.loaded.paths)
            .map(|(expert, path)| (expert.name.as_str(), path.as_deref()))
    }

    /// Adds the experts of `folder`. What is none for this sidecar, or has the name of another, is told and left out.
    pub fn add_folder(&mut self, folder: &Path) -> Result<()> {
        for (path, expert) in open_folder(folder, &self.loaded.sidecar)? {
            let is_taken =
                |expert: &Expert| self.loaded.experts.iter().any(|other| other.name == expert.name);
            let left_out = |error: Error| printer::note_error(&error.file(&path).hint("it is not loaded"));
            match expert {
                Ok(expert) if is_taken(&expert) => {
                    left_out(Error::invalid(format!("another expert is called '{}'", expert.name)));
                }
                Ok(expert) => {
                    self.loaded.experts.push(expert);
                    self.loaded.paths.push(Some(path));
                }
                Err(error) => left_out(error),
            }
        }
        Ok(())
    }

    /// Joins the sidecar with its model.
    pub fn join(self, model: &Arc<Model>) -> Result<ModelWithExperts> {
        let Self { loaded: Loaded { sidecar, experts, .. }, form, op } = self;
        let joined = ModelWithExperts::new(AdaptedModel::new(model, sidecar)?, experts, form, op);
        Ok(joined.telling(|line| printer::note(line)))
    }
}

/// Opens `[NAME=]FILE`. A file whose own name contains `=` is meant as it stands.
pub fn open_expert(argument: &str) -> Result<(Expert, PathBuf)> {
    let (name, path) = match argument.split_once('=') {
        Some((name, path)) if !Path::new(argument).exists() => (Some(name), path),
        _ => (None, argument),
    };
    let mut expert = Expert::open(Path::new(path))?;
    if let Some(name) = name {
        crate::expert::check_name(name).map_err(|error| error.field("--expert"))?;
        expert.name = name.to_owned();
    }
    Ok((expert, path.into()))
}
