//! The flags that choose a sidecar, experts and a mixture, shared by the commands that run models.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use clap::ValueEnum;

use super::printer;
use crate::engine::{AdaptedModel, AdapterOptions, Form, GraphOp, Model, Placement, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::expert::{Expert, ExpertSet, Mixture};
use crate::sidecar::Sidecar;

#[derive(clap::Args)]
#[command(next_help_heading = "Experts")]
pub struct ExpertArgs {
    /// The model's sidecar, made by `llama-svf decompose`
    #[arg(long, value_name = "FILE")]
    pub svf: Option<PathBuf>,
    /// Load an expert, under another name if one is given; may be repeated
    #[arg(long, value_name = "[NAME=]FILE", requires = "svf")]
    expert: Vec<String>,
    /// Use this expert
    #[arg(long = "use", value_name = "NAME", requires = "svf", conflicts_with = "mix")]
    use_expert: Option<String>,
    /// Use a weighted sum of experts: A=0.7,B=0.3, or @FILE with {"A": 0.7, "B": 0.3}
    #[arg(long, value_name = "MIXTURE", requires = "svf")]
    mix: Option<String>,
    /// Multiply every weight of the mixture: 0 is the base model
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "svf")]
    #[arg(allow_negative_numbers = true)]
    pub strength: f32,
    /// How adapted layers run: beside the base weight, or in its place (full-rank sidecars)
    #[arg(long, value_enum, default_value_t = FormFlag::Residual, requires = "svf")]
    form: FormFlag,
    /// Implementation: one fused kernel, or stock ggml operations
    #[arg(long, value_enum, default_value_t = OpFlag::Auto, requires = "svf")]
    op: OpFlag,
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

impl ExpertArgs {
    /// The mixture that the flags name. Where the model chooses later (`is_adapted`), their absence is no surprise.
    pub fn mixture(&self, is_adapted: bool) -> Result<Mixture> {
        let mixture = match (&self.use_expert, &self.mix) {
            (Some(name), _) => Mixture::single(name.as_str()),
            (None, Some(mix)) => Mixture::parse(mix).map_err(|error| error.field("--mix"))?,
            (None, None) => Mixture::base(),
        };
        if self.svf.is_some() && self.use_expert.is_none() && self.mix.is_none() && !is_adapted {
            let hint = if self.expert.is_empty() {
                "--expert FILE --use NAME"
            } else {
                "--use NAME, or --mix A=0.7,B=0.3"
            };
            printer::note(format_args!("note: no expert is in use, this is the base model (hint: {hint})"));
        }
        let hint = "1 leaves the mixture as it is, 0 is the base model";
        mixture.strength(self.strength).map_err(|error| error.field("--strength").hint(hint))
    }

    /// For commands that find the mixture themselves.
    pub fn refuse_mixture(&self, command: &str) -> Result<()> {
        let given = [("--use", self.use_expert.is_some()), ("--mix", self.mix.is_some())];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => {
                Err(Error::invalid(format!("{command} finds the mixture itself")).field(*flag))
            }
            None => Ok(()),
        }
    }

    /// Opens the sidecar and the experts, if a sidecar is given, and checks that they fit each other.
    pub fn open(&self) -> Result<Option<Adapter>> {
        let Some(svf) = &self.svf else { return Ok(None) };
        let sidecar = Sidecar::open(svf)?;
        let experts = self.expert.iter().map(|argument| {
            let (expert, path) = open_expert(argument)?;
            expert.check(&sidecar).map_err(|error| error.file(path))?;
            Ok(expert)
        });
        let experts = experts.collect::<Result<_>>()?;
        let form = self.form.form();
        let op = match self.op {
            OpFlag::Auto => GraphOp::Auto,
            OpFlag::Fused => GraphOp::Fused,
            OpFlag::Composed => GraphOp::Composed,
        };
        Ok(Some(Adapter { sidecar, experts, form, op }))
    }
}

/// What the flags name, checked, before any model is loaded.
pub struct Adapter {
    sidecar: Sidecar,
    experts: Vec<Expert>,
    form: Form,
    op: GraphOp,
}

/// The same with the model in memory.
pub struct Joined {
    adapted: Arc<AdaptedModel>,
    experts: Vec<Expert>,
    form: Form,
    op: GraphOp,
    said_where: Once,
}

impl Adapter {
    /// The experts, as loaded.
    pub fn experts(&self) -> &[Expert] {
        &self.experts
    }

    /// Joins the sidecar with its model.
    pub fn join(self, model: &Arc<Model>) -> Result<Joined> {
        let Self { sidecar, experts, form, op } = self;
        let adapted = AdaptedModel::new(model, sidecar)?;
        Ok(Joined { adapted, experts, form, op, said_where: Once::new() })
    }
}

impl Joined {
    /// All experts as a set.
    pub fn expert_set(&self) -> Result<ExpertSet> {
        let mut set = ExpertSet::new(self.adapted.sidecar());
        self.experts.iter().try_for_each(|expert| set.insert(expert.clone()))?;
        Ok(set)
    }

    /// A hash of all that changes what mixtures of the experts answer, but for the model's own weights, which the
    /// experts name.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{:?} {:?}", self.form, self.op).as_bytes());
        for weight in &self.adapted.sidecar().weights {
            let types = format!("{} {} {} {}", weight.name, weight.rank, weight.u.ty, weight.vt.ty);
            hasher.update(types.as_bytes());
        }
        for expert in &self.experts {
            hasher.update(format!("{} {}", expert.name, expert.fingerprint.as_str()).as_bytes());
            for (weight, m) in &expert.multipliers {
                hasher.update(weight.as_bytes());
                m.iter().for_each(|m| {
                    hasher.update(&m.to_le_bytes());
                });
            }
        }
        hasher.finalize().to_string()
    }

    /// A session with `n_slots` slots and all experts.
    pub fn session(&self, options: &SessionOptions, n_slots: u32) -> Result<Session> {
        let adapter = AdapterOptions { form: self.form, op: self.op, n_slots };
        let mut session = Session::adapted(&self.adapted, options, &adapter)?;
        for expert in &self.experts {
            session.experts_mut()?.insert(expert.clone())?;
        }
        if let Some(line) = Placement::line(&session.placements()) {
            self.said_where.call_once(|| printer::note(line));
        }
        Ok(session)
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
