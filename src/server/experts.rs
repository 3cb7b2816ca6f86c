//! The experts that the server knows: loading and unloading while it runs, and who chooses among them.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State as Extract;
use axum::Json;
use serde_json::{json, Value};

use super::body::{JsonBody, ObjectBody};
use super::choose::{weights, Default};
use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::router::App;
use super::state::State;
use crate::dispatch::{AdaptPrompt, Candidates, Dispatcher, Options, Strategy};
use crate::engine::{Model, Scheduler};
use crate::error::{Error, Result};
use crate::expert::{check_name, Expert, ExpertSet, Mixture};

/// How pass 1 is done, whatever the strategy.
pub struct Adaptation {
    /// What asks; `None` takes the wording that suits model and experts best.
    pub prompt: Option<AdaptPrompt>,
    /// All else but for the strategy, which requests choose.
    pub options: Options,
}

/// An expert that was loaded before the server began.
#[derive(Clone, Debug)]
pub struct NamedExpert {
    /// Its name.
    pub name: String,
    /// Where it came from, if from a file.
    pub path: Option<PathBuf>,
}

/// All of them.
pub struct Experts {
    inner: Mutex<Inner>,
    /// Where experts may be loaded from, without links.
    folder: Option<PathBuf>,
    adaptation: Adaptation,
}

struct Inner {
    /// As the scheduler has them.
    set: Option<ExpertSet>,
    /// By id, which is an index here; `None` for those that were unloaded.
    known: Vec<Option<NamedExpert>>,
    default: Default,
    /// How often the experts have changed.
    n_changes: u64,
    /// Those that were needed since the experts changed last.
    dispatchers: HashMap<&'static str, Arc<Dispatcher>>,
}

impl Experts {
    /// The experts of `scheduler`, which are those of `named`; more can be loaded from `folder`.
    ///
    /// # Errors
    /// There is no such folder, or `default` names what is not loaded or cannot choose.
    pub fn new(
        scheduler: &Scheduler,
        named: Vec<NamedExpert>,
        folder: Option<&Path>,
        default: Default,
        adaptation: Adaptation,
    ) -> Result<Self> {
        let folder = folder.map(|path| {
            let folder = path.canonicalize().map_err(|error| Error::io("cannot open", path, error))?;
            match folder.is_dir() {
                true => Ok(folder),
                false => Err(Error::expected("a folder of experts", "something else").file(path)),
            }
        });
        let inner = Inner {
            set: scheduler.experts().ok(),
            known: named.into_iter().map(Some).collect(),
            default: default.clone(),
            n_changes: 0,
            dispatchers: HashMap::new(),
        };
        let experts = Self { inner: Mutex::new(inner), folder: folder.transpose()?, adaptation };
        match default {
            Default::Fixed(mixture) if mixture.is_base() => {}
            Default::Fixed(mixture) => _ = scheduler.experts()?.resolve(&mixture)?,
            Default::Adapt(strategy) => _ = experts.dispatcher(strategy, scheduler.model())?,
        }
        Ok(experts)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an expert of this name is loaded.
    pub fn has(&self, name: &str) -> bool {
        self.lock().set.as_ref().is_some_and(|set| set.get(name).is_ok())
    }

    /// Who answers where a request does not say.
    pub fn default_choice(&self) -> Default {
        self.lock().default.clone()
    }

    /// Who can choose, the usual one first.
    pub fn strategies(&self) -> Vec<Strategy> {
        let inner = self.lock();
        let Some(set) = &inner.set else { return Vec::new() };
        let mut strategies = Strategy::possible(set, &self.adaptation.options.classifier);
        if let Default::Adapt(usual) = inner.default {
            strategies.sort_by_key(|strategy| *strategy != usual);
        }
        strategies
    }

    /// Who chooses among the experts of now.
    ///
    /// # Errors
    /// Those of [`Dispatcher::new`].
    pub fn dispatcher(&self, strategy: Strategy, model: &Model) -> Result<Arc<Dispatcher>> {
        let (set, n_changes) = {
            let inner = self.lock();
            if let Some(dispatcher) = inner.dispatchers.get(strategy.name()) {
                return Ok(Arc::clone(dispatcher));
            }
            let none = || Error::invalid("no experts are loaded to choose from");
            (inner.set.clone().ok_or_else(none)?, inner.n_changes)
        };
        let options = Options { strategy, ..self.adaptation.options.clone() };
        let prompt = match &self.adaptation.prompt {
            Some(prompt) => prompt.clone(),
            None => AdaptPrompt::suited(model, &Candidates::new(set.iter(), &options.classifier)?),
        };
        let dispatcher = Arc::new(Dispatcher::new(&set, prompt, options)?);
        let mut inner = self.lock();
        // The experts may have changed meanwhile.
        if inner.n_changes == n_changes {
            inner.dispatchers.insert(strategy.name(), Arc::clone(&dispatcher));
        }
        Ok(dispatcher)
    }

    /// The mixture of llama-server's `lora`: `[{"id", "scale"}]`, what is not named counts nothing.
    pub fn of_loras(&self, list: &[Value]) -> ApiResult<Mixture> {
        let inner = self.lock();
        let mut pairs = serde_json::Map::new();
        for entry in list {
            let Some(object) = entry.as_object().map(Fields) else {
                return Err(ApiError::field("lora", "expected a list of {\"id\", \"scale\"}"));
            };
            let missing = |name: &str| ApiError::field("lora", format!("an entry has no '{name}'"));
            let id = object.integer("id")?.ok_or_else(|| missing("id"))?;
            let scale = object.number("scale")?.ok_or_else(|| missing("scale"))?;
            let known = usize::try_from(id).ok().and_then(|id| inner.known.get(id)?.as_ref());
            let known = known.ok_or_else(|| ApiError::field("lora", format!("there is no adapter {id}")))?;
            pairs.insert(known.name.clone(), json!(scale));
        }
        match pairs.is_empty() {
            true => Ok(Mixture::base()),
            false => Ok(Mixture::from_json(&Value::Object(pairs).to_string())?),
        }
    }

    /// Loads the file `path` as `name`, in the place of an expert of that name.
    fn load(&self, scheduler: &Scheduler, name: &str, path: &str) -> ApiResult<()> {
        check_name(name).map_err(|error| ApiError::field("lora_name", error))?;
        let path = self.confined(path)?;
        let mut expert = Expert::open(&path)?;
        name.clone_into(&mut expert.name);
        let mut inner = self.lock();
        scheduler.replace_expert(expert)?;
        let known = NamedExpert { name: name.to_owned(), path: Some(path) };
        let is_it = |it: &Option<NamedExpert>| it.as_ref().is_some_and(|it| it.name == name);
        match inner.known.iter_mut().find(|it| is_it(it)) {
            Some(old) => *old = Some(known),
            None => inner.known.push(Some(known)),
        }
        inner.changed(scheduler);
        Ok(())
    }

    /// Forgets the expert `name`. Requests that began with it keep it to their end.
    fn unload(&self, scheduler: &Scheduler, name: &str) -> ApiResult<()> {
        let mut inner = self.lock();
        if let Default::Fixed(mixture) = &inner.default {
            if mixture.weights().any(|(used, _)| used == name) {
                return Err(ApiError::invalid(format!("'{name}' is part of the server's default mixture")));
            }
        }
        scheduler.change_experts(|experts| experts.remove(name).map(drop))?;
        for known in &mut inner.known {
            known.take_if(|it| it.name == name);
        }
        inner.changed(scheduler);
        Ok(())
    }

    /// `path` as it lies in the folder of experts; nothing outside, and nothing behind a link.
    fn confined(&self, path: &str) -> ApiResult<PathBuf> {
        let Some(folder) = &self.folder else {
            return Err(ApiError::not_supported(
                "this server loads no experts: start it with a folder of experts",
            ));
        };
        let outside = || ApiError::forbidden("the path lies outside of the folder of experts");
        let given = Path::new(path);
        let relative = match given.is_absolute() {
            true => given.strip_prefix(folder).map_err(|_| outside())?,
            false => given,
        };
        let mut found = folder.clone();
        for part in relative.components() {
            match part {
                Component::Normal(name) => found.push(name),
                Component::CurDir => continue,
                _ => return Err(outside()),
            }
            let metadata = found.symlink_metadata();
            if metadata.map_err(|error| Error::io("cannot read", path, error))?.is_symlink() {
                return Err(outside());
            }
        }
        Ok(found)
    }
}

impl Inner {
    /// The experts are others now.
    fn changed(&mut self, scheduler: &Scheduler) {
        self.set = scheduler.experts().ok();
        self.n_changes += 1;
        self.dispatchers.clear();
    }
}

/// How strategies and the default look to a client.
pub fn describe(state: &State) -> Value {
    let experts = &state.experts;
    let (strategy, mixture) = match experts.default_choice() {
        Default::Fixed(mixture) => ("fixed", weights(&mixture)),
        Default::Adapt(strategy) => (strategy.name(), json!({})),
    };
    let names = experts.strategies().into_iter().map(Strategy::name).collect::<Vec<_>>();
    json!({
        "strategies": names,
        "default": { "strategy": strategy, "mixture": mixture },
        "threshold": experts.adaptation.options.threshold,
        "can_load": experts.folder.is_some(),
        "base": state.alias,
    })
}

/// The experts as models of their own.
pub fn as_models(state: &State) -> Vec<Value> {
    let inner = state.experts.lock();
    let Some(set) = &inner.set else { return Vec::new() };
    let model = |known: &NamedExpert| {
        let expert = set.get(&known.name).ok()?;
        Some(json!({
            "id": known.name,
            "object": "model",
            "created": state.started,
            "owned_by": "llamacpp",
            "parent": state.alias,
            "root": path_json(known),
            "description": expert.description,
        }))
    };
    inner.known.iter().flatten().filter_map(model).collect()
}

fn path_json(known: &NamedExpert) -> Value {
    known.path.as_ref().map_or(Value::Null, |path| path.to_string_lossy().into())
}

/// `GET /v1/experts`.
pub async fn list(Extract(app): Extract<Arc<App>>) -> ApiResult<Json<Value>> {
    let state = app.state()?;
    let mut json = describe(&state);
    let inner = state.experts.lock();
    let expert = |(id, known): (usize, &Option<NamedExpert>)| {
        let known = known.as_ref()?;
        let expert = inner.set.as_ref()?.get(&known.name).ok()?;
        let training = expert.training.as_ref().and_then(|training| serde_json::to_value(training).ok());
        Some(json!({
            "id": id,
            "name": known.name,
            "description": expert.description,
            "path": path_json(known),
            "n_values": expert.multipliers.values().map(Vec::len).sum::<usize>(),
            "training": training,
        }))
    };
    json["object"] = "list".into();
    json["data"] = inner.known.iter().enumerate().filter_map(expert).collect();
    Ok(Json(json))
}

/// `GET /lora-adapters`.
pub async fn list_loras(Extract(app): Extract<Arc<App>>) -> ApiResult<Json<Value>> {
    let state = app.state()?;
    let default = state.experts.default_choice();
    let inner = state.experts.lock();
    let scale = |name: &str| match &default {
        Default::Fixed(mixture) => {
            mixture.weights().find(|(it, _)| *it == name).map_or(0.0, |(_, alpha)| alpha)
        }
        Default::Adapt(_) => 0.0,
    };
    let adapter = |(id, known): (usize, &Option<NamedExpert>)| {
        let known = known.as_ref()?;
        Some(json!({ "id": id, "path": path_json(known), "scale": scale(&known.name), "name": known.name }))
    };
    Ok(Json(inner.known.iter().enumerate().filter_map(adapter).collect()))
}

/// `POST /lora-adapters`: who answers where a request does not say.
pub async fn set_loras(Extract(app): Extract<Arc<App>>, JsonBody(body): JsonBody) -> ApiResult<Json<Value>> {
    let state = app.state()?;
    let Some(list) = body.as_array() else {
        return Err(ApiError::invalid("Request body must be an array"));
    };
    let mixture = state.experts.of_loras(list)?;
    state.experts.lock().default = Default::Fixed(mixture);
    Ok(Json(json!({ "success": true })))
}

/// `POST /v1/load_lora_adapter`.
pub async fn load(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<String> {
    let state = app.state()?;
    let text = |name: &str| {
        let missing = || ApiError::field(name, "expected a text, found nothing");
        body.fields().text(name)?.map(str::to_owned).ok_or_else(missing)
    };
    let (name, path) = (text("lora_name")?, text("lora_path")?);
    let said = format!("Success: LoRA adapter '{name}' added successfully.");
    let work = move || {
        state.experts.load(&state.scheduler, &name, &path)?;
        state.metrics.loaded();
        Ok::<_, ApiError>(())
    };
    super::state::aside(work).await?;
    Ok(said)
}

/// `POST /v1/unload_lora_adapter`.
pub async fn unload(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<String> {
    let state = app.state()?;
    let missing = || ApiError::field("lora_name", "expected a text, found nothing");
    let name = body.fields().text("lora_name")?.ok_or_else(missing)?;
    state.experts.unload(&state.scheduler, name)?;
    state.metrics.forget(name);
    Ok(format!("Success: LoRA adapter '{name}' removed successfully."))
}
