//! A loaded llama.cpp model, and the process-wide backend it needs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};
use crate::ffi::device::Device;
use crate::ffi::guard::guarded;
use crate::ffi::rpc::RpcServer;
use crate::ffi::{fatal, log, svf};

/// A model in memory. Shared by contexts, which keep it alive.
pub struct ModelHandle {
    model: LlamaModel,
    path: PathBuf,
    /// Dropped after the model, whose layers they hold.
    servers: Vec<Arc<RpcServer>>,
}

/// Where a model's layers are kept.
#[derive(Clone, Debug, Default)]
pub struct Offload {
    /// As many of the last layers as this are on GPUs, where some are built in, and on `servers`; the others on the CPU.
    pub n_gpu_layers: u32,
    /// Other machines.
    pub servers: Vec<Arc<RpcServer>>,
}

impl Offload {
    /// Layers on the GPUs of this machine.
    pub fn gpu(n_gpu_layers: u32) -> Self {
        Self { n_gpu_layers, servers: Vec::new() }
    }

    /// Which of ggml's devices may be used, by number: the servers' first, since what they compute then goes over the network
    /// as seldom as can be.
    fn devices(&self) -> Vec<usize> {
        let all = Device::all();
        let is_ours = |device: &Device| !device.is_cpu() && !device.is_remote();
        let remote = self.servers.iter().flat_map(|server| server.devices().iter().copied());
        let wanted = remote.chain(all.iter().copied().filter(is_ours));
        wanted.filter_map(|device| all.iter().position(|known| *known == device)).collect()
    }
}

// SAFETY: after loading, llama.cpp only reads a model; creating contexts goes through `Context::new`,
// which llama.cpp allows from several threads.
unsafe impl Send for ModelHandle {}
// SAFETY: as above.
unsafe impl Sync for ModelHandle {}

/// OpenMP keeps threads at hand for every thread that has used some, and these spin for a while: those of loading would
/// take the cores from the first prompt, which another thread reads. They go with the thread that loads.
fn in_a_thread_of_its_own<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("loading".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::engine(format!("cannot start a thread: {error}")))?;
        thread.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}

/// Initialises llama.cpp once per process.
fn backend() -> Result<&'static LlamaBackend> {
    static BACKEND: OnceLock<std::result::Result<LlamaBackend, String>> = OnceLock::new();
    log::install();
    let backend = BACKEND.get_or_init(|| LlamaBackend::init().map_err(|error| error.to_string()));
    backend.as_ref().map_err(|error| Error::engine(format!("cannot initialise llama.cpp: {error}")))
}

impl ModelHandle {
    /// Loads the GGUF model at `path`.
    ///
    /// # Errors
    /// llama.cpp cannot load it, or a server broke off.
    pub fn load(path: &Path, offload: &Offload) -> Result<Arc<Self>> {
        let backend = backend()?;
        fatal::blame(path);
        let (model, said) = in_a_thread_of_its_own(|| {
            let params = LlamaModelParams::default().with_n_gpu_layers(offload.n_gpu_layers);
            // Left alone, llama.cpp takes servers that were connected to for another model, too.
            let params = match Device::all().iter().any(|device| device.is_remote()) {
                true => params.with_devices(&offload.devices()).map_err(|error| {
                    Error::engine(format!("cannot use so many devices: {error}")).setting("rpc")
                })?,
                false => params,
            };
            Ok::<_, Error>(log::captured(|| LlamaModel::load_from_file(backend, path, &params)))
        })??;
        offload.servers.iter().try_for_each(|server| server.check())?;
        let model = model.map_err(|_| {
            let reason = said.lines().rev().find(|line| line.contains("error")).unwrap_or("no reason given");
            Error::engine(format!("llama.cpp cannot load it: {}", reason.trim()))
                .file(path)
                .hint("check that stock llama-cli runs this file")
        })?;
        Ok(Arc::new(Self { model, path: path.to_path_buf(), servers: offload.servers.clone() }))
    }

    /// The model's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether some layers are on other machines.
    pub(super) fn is_remote(&self) -> bool {
        !self.servers.is_empty()
    }

    /// # Errors
    /// A server that holds some of its layers is gone.
    pub(super) fn check_servers(&self) -> Result<()> {
        self.servers.iter().try_for_each(|server| server.check())
    }

    /// Token ids of `text`; see [`crate::engine::Model::tokenize`].
    ///
    /// # Errors
    /// The vocabulary has no way to say some of the text, or the text is longer than 2 GiB.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<i32>> {
        let size = i32::try_from(text.len())
            .map_err(|_| Error::expected("a text of at most 2 GiB", format!("{} bytes", text.len())))?;
        // Most tokens are longer than two bytes.
        let mut tokens = vec![0; text.len() / 2 + 8];
        // llama.cpp answers with the number of tokens, negated where there is no room for them.
        loop {
            let room = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
            let (count, _) = guarded("turn a text into tokens", |error, error_size| {
                // SAFETY: the model is alive, and so are the arrays of the stated sizes; `error` too.
                unsafe {
                    svf::svf_tokenize(
                        sys::llama_model_get_vocab(self.as_ptr()),
                        text.as_ptr().cast(),
                        size,
                        tokens.as_mut_ptr(),
                        room,
                        add_special,
                        parse_special,
                        error,
                        error_size,
                    )
                }
            })
            .map_err(|error| {
                error.file(&self.path).field("tokenizer.ggml.tokens").hint(
                    "the model's vocabulary lacks a character of this text, and the bytes to spell it; use \
                     another text or model",
                )
            })?;
            match usize::try_from(count) {
                Ok(count) => {
                    tokens.truncate(count);
                    return Ok(tokens);
                }
                Err(_) if count == i32::MIN => {
                    return Err(Error::too_large("the text is too long to be tokenized").file(&self.path));
                }
                Err(_) => tokens.resize(count.unsigned_abs() as usize, 0),
            }
        }
    }

    /// llama-cpp-2's own view of the model: vocabulary, metadata, chat template.
    pub fn llama(&self) -> &LlamaModel {
        &self.model
    }

    /// llama.cpp's words for the model.
    pub fn description(&self) -> String {
        let mut text = [0_u8; 256];
        // SAFETY: the model is alive, and the array has the stated size.
        let size = unsafe { sys::llama_model_desc(self.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
        let size = usize::try_from(size).unwrap_or(0).min(text.len() - 1);
        String::from_utf8_lossy(&text[..size]).into_owned()
    }

    /// The kind of its vocabulary, as llama.cpp numbers them.
    pub fn vocab_type(&self) -> i32 {
        // SAFETY: the model is alive, and so is its vocabulary.
        let kind = unsafe { sys::llama_vocab_type(sys::llama_model_get_vocab(self.as_ptr())) };
        i32::try_from(kind).unwrap_or(0)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        // SAFETY: `LlamaModel` is `repr(transparent)` over its raw pointer.
        unsafe { *std::ptr::from_ref(&self.model).cast::<*mut sys::llama_model>() }
    }

    /// The tensor llama.cpp keeps under `name`, if any.
    pub(super) fn tensor(&self, name: &str) -> Option<*const sys::ggml_tensor> {
        let name = std::ffi::CString::new(name).ok()?;
        // SAFETY: model and name live through the call.
        let tensor = unsafe { svf::svf_model_tensor(self.as_ptr(), name.as_ptr()) };
        (!tensor.is_null()).then_some(tensor)
    }
}
