//! A llama.cpp context: batches in, logits out, with the adapted weights bound to it.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::Range;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};
use crate::ffi::device::Device;
use crate::ffi::factors::{Factors, TensorMemory};
use crate::ffi::guard::guarded;
use crate::ffi::log;
use crate::ffi::model::ModelHandle;
use crate::ffi::svf;
use crate::ffi::tensor_type::TensorType;

/// What a context is made with; the names are llama.cpp's.
#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// Cells of the KV cache over all sequences, in tokens.
    pub n_ctx: u32,
    /// Most tokens of one decode.
    pub n_batch: u32,
    /// Most tokens of one graph.
    pub n_ubatch: u32,
    /// Threads of decodes with one token and with more.
    pub n_threads: u32,
    /// Most sequences.
    pub n_seq: u32,
    /// Element type of the KV cache.
    pub kv: TensorType,
    /// Whether attention runs as one fused kernel.
    pub flash_attention: bool,
    /// Whether all sequences share the cells; otherwise each has an equal part of its own.
    pub kv_unified: bool,
}

/// One token of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchToken {
    /// Vocabulary id.
    pub token: i32,
    /// Position in its sequence.
    pub position: i32,
    /// Sequence.
    pub sequence: u32,
    /// Whether its logits are wanted.
    pub output: bool,
}

/// How an adapted layer is evaluated in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// W·x + U·((σ⊙(m−1)) ⊙ (Vᵀ·x)).
    Residual,
    /// U·((σ⊙m) ⊙ (Vᵀ·x)).
    Factored,
}

impl Form {
    /// As flags spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Residual => "residual",
            Self::Factored => "factored",
        }
    }
}

/// Which implementation of the op the graph uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphOp {
    /// Fused where the device of the weight supports it and is not slower so.
    Auto,
    /// As `Auto`, but with a limit of our own: graphs of more tokens run as stock ops.
    FusedUpTo(NonZeroU16),
    /// Our kernel; an error where the device of a weight has none.
    Fused,
    /// Stock ggml ops.
    Composed,
}

impl fmt::Display for GraphOp {
    /// As flags spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::FusedUpTo(n) => write!(f, "fused up to {n} tokens"),
            Self::Fused => f.write_str("fused"),
            Self::Composed => f.write_str("composed"),
        }
    }
}

/// How an adapted weight runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As one op, on the device of the weight.
    Fused,
    /// As stock ops, on the device of the weight.
    Composed,
    /// As stock ops, not all of which that device has: another one computes them.
    CrossDevice,
}

/// A context of one model.
pub struct Context {
    pointer: NonNull<sys::llama_context>,
    binding: Option<Binding>,
    loras: Vec<Arc<Lora>>,
    model: Arc<ModelHandle>,
    n_outputs: usize,
}

// SAFETY: a context may move between threads as long as one uses it at a time, which `&mut self` ensures.
unsafe impl Send for Context {}

/// The factors bound to a context, and its own rows of s.
struct Binding {
    pointer: NonNull<svf::svf_binding>,
    s: Vec<*mut sys::ggml_tensor>,
    _s_memory: Vec<TensorMemory>,
    factors: Arc<Factors>,
    n_slots: usize,
}

impl Context {
    /// A context of `model` that runs the base model.
    ///
    /// # Errors
    /// llama.cpp cannot create it, mostly for want of memory.
    pub fn new(model: &Arc<ModelHandle>, options: &ContextOptions) -> Result<Self> {
        // SAFETY: plain data.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = options.n_ctx;
        params.n_batch = options.n_batch;
        params.n_ubatch = options.n_ubatch;
        params.n_seq_max = options.n_seq;
        let n_threads = i32::try_from(options.n_threads).unwrap_or(i32::MAX);
        params.n_threads = n_threads;
        params.n_threads_batch = n_threads;
        params.type_k = options.kv.id();
        params.type_v = options.kv.id();
        params.flash_attn_type = if options.flash_attention {
            sys::LLAMA_FLASH_ATTN_TYPE_ENABLED
        } else {
            sys::LLAMA_FLASH_ATTN_TYPE_DISABLED
        };
        params.kv_unified = options.kv_unified;
        let pointer = guarded("create a context", |error, error_size| {
            // SAFETY: the model outlives the context, which keeps it alive; the error buffer has the stated size.
            unsafe { svf::svf_new_context(model.as_ptr(), params, error, error_size) }
        })
        .and_then(|(pointer, said)| {
            NonNull::new(pointer).ok_or_else(|| {
                Error::engine(format!("llama.cpp cannot create a context: {}", last_line(&said)))
            })
        })
        .map_err(|error| error.file(model.path()).hint("try a smaller `n_ctx` or fewer sequences"))?;
        Ok(Self { pointer, binding: None, loras: Vec::new(), model: Arc::clone(model), n_outputs: 0 })
    }

    /// Tokens of KV cache.
    pub fn n_ctx(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_ctx(self.pointer.as_ptr()) }
    }

    /// Tokens of KV cache that one sequence can fill.
    pub fn n_ctx_seq(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_ctx_seq(self.pointer.as_ptr()) }
    }

    /// Most tokens of one decode.
    pub fn n_batch(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_batch(self.pointer.as_ptr()) }
    }

    /// Most tokens of one graph.
    pub fn n_ubatch(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_ubatch(self.pointer.as_ptr()) }
    }

    /// Binds `factors` with `n_slots` rows of s per weight, all zero: slots are written next.
    ///
    /// # Errors
    /// A device has no memory or no such op, or the model's graph has no place for a weight.
    ///
    /// # Panics
    /// The factors are of another loaded model.
    pub fn bind(&mut self, factors: &Arc<Factors>, form: Form, op: GraphOp, n_slots: usize) -> Result<()> {
        assert!(Arc::ptr_eq(&factors.model, &self.model), "factors of another loaded model");
        self.unbind();
        let mut s = Vec::with_capacity(factors.weights.len());
        let mut s_memory = Vec::new();
        let mut weights = Vec::with_capacity(factors.weights.len());
        // The weights come grouped by device.
        for group in factors.weights.chunk_by(|a, b| a.device == b.device) {
            let mut memory = TensorMemory::new(group.len())?;
            for factor in group {
                let tensor = memory.tensor("svf_s", TensorType::F32, factor.rank, n_slots)?;
                s.push(tensor);
                weights.push(svf::svf_weight {
                    weight: factor.weight,
                    vt: factor.vt,
                    u: factor.u,
                    s: tensor,
                    device: factor.device.as_ptr(),
                });
            }
            memory.allocate(group[0].device)?;
            s_memory.push(memory);
        }
        let form = match form {
            Form::Residual => svf::SVF_FORM_RESIDUAL,
            Form::Factored => svf::SVF_FORM_FACTORED,
        };
        let (op, fused_tokens) = match op {
            GraphOp::Auto => (svf::SVF_OP_AUTO, 0),
            GraphOp::FusedUpTo(n) => (svf::SVF_OP_AUTO, i32::from(n.get())),
            GraphOp::Fused => (svf::SVF_OP_FUSED, 0),
            GraphOp::Composed => (svf::SVF_OP_COMPOSED, 0),
        };
        // SAFETY: the tensors of `weights` live as long as the binding, which owns or shares them; the
        // error buffer has the stated size.
        let bound = guarded("adapt its graph", |error, error_size| unsafe {
            svf::svf_bind(
                self.pointer.as_ptr(),
                weights.as_ptr(),
                weights.len(),
                form,
                op,
                fused_tokens,
                error,
                error_size,
            )
        });
        let pointer = bound
            .and_then(|(pointer, _)| {
                NonNull::new(pointer).ok_or_else(|| Error::engine("no binding was made"))
            })
            .map_err(|error| error.hint("leave that tensor out of the `tensors` to `decompose`"))?;
        self.binding =
            Some(Binding { pointer, s, _s_memory: s_memory, factors: Arc::clone(factors), n_slots });
        Ok(())
    }

    /// Runs the base model again.
    pub fn unbind(&mut self) {
        if let Some(binding) = self.binding.take() {
            // SAFETY: the binding belongs to this context; its memory is freed after the call.
            unsafe { svf::svf_unbind(self.pointer.as_ptr(), binding.pointer.as_ptr()) };
        }
    }

    /// Writes row `slot` of s for the bound weight `weight` (in the order of [`Factors::names`]).
    ///
    /// # Panics
    /// No factors are bound, or slot, weight or the length of the row is out of range.
    pub fn write_slot(&mut self, slot: usize, weight: usize, row: &[f32]) {
        let binding = self.binding.as_ref().expect("factors are bound");
        assert!(slot < binding.n_slots && row.len() == binding.factors.weights[weight].rank);
        let bytes = size_of_val(row);
        // SAFETY: the row lies inside the tensor; no decode is running, because `&mut self` is held and
        // `synchronize` waits for devices.
        unsafe {
            sys::llama_synchronize(self.pointer.as_ptr());
            sys::ggml_backend_tensor_set(binding.s[weight], row.as_ptr().cast(), slot * bytes, bytes);
        }
    }

    /// Lets tokens of `sequence` use `slot` from the next decode on.
    ///
    /// # Panics
    /// No factors are bound, or sequence or slot is out of range.
    pub fn assign(&mut self, sequence: u32, slot: usize) {
        let binding = self.binding.as_ref().expect("factors are bound");
        assert!(slot < binding.n_slots && sequence < self.n_seq_max());
        // SAFETY: the binding is alive and the sequence in range.
        unsafe { svf::svf_assign(binding.pointer.as_ptr(), sequence as i32, slot as i32) };
    }

    /// Lets `sequence` sum up what block `layer` leaves for its tokens at positions `range`, from the next decode on; an
    /// empty range ends it.
    ///
    /// # Panics
    /// No factors are bound, or sequence or layer is out of range.
    pub fn pool(&mut self, sequence: u32, layer: u32, range: Range<u32>) {
        let binding = self.binding.as_ref().expect("factors are bound");
        assert!(sequence < self.n_seq_max() && layer < self.model.llama().n_layer());
        let (first, end) = (range.start as i32, range.end as i32);
        // SAFETY: the binding is alive and the sequence in range.
        unsafe { svf::svf_pool(binding.pointer.as_ptr(), sequence as i32, layer as i32, first, end) };
    }

    /// The mean, `[n_embd]`, of what `sequence` has summed up of block `layer`, and of how many tokens it is.
    ///
    /// # Panics
    /// No factors are bound, or the sequence is out of range.
    pub fn pooled(&self, sequence: u32, layer: u32) -> (Vec<f32>, u32) {
        let binding = self.binding.as_ref().expect("factors are bound");
        assert!(sequence < self.n_seq_max());
        let mut mean = vec![0.0; self.model.llama().n_embd() as usize];
        // SAFETY: the binding is alive and the sequence in range; `mean` has the stated length.
        let n = unsafe {
            svf::svf_pooled(
                binding.pointer.as_ptr(),
                sequence as i32,
                layer as i32,
                mean.as_mut_ptr(),
                mean.len(),
            )
        };
        (mean, n as u32)
    }

    fn n_seq_max(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_seq_max(self.pointer.as_ptr()) }
    }

    /// Where each bound weight runs, and how (in the order of [`Factors::names`]).
    pub fn ways(&self) -> Vec<(Device, Way)> {
        let Some(binding) = &self.binding else { return Vec::new() };
        let way_of = |weight| {
            // SAFETY: the binding is alive and holds this weight.
            match unsafe { svf::svf_way_of(binding.pointer.as_ptr(), weight) } {
                svf::SVF_WAY_FUSED => Way::Fused,
                svf::SVF_WAY_COMPOSED => Way::Composed,
                _ => Way::CrossDevice,
            }
        };
        binding.factors.weights.iter().map(|weight| (weight.device, way_of(weight.weight))).collect()
    }

    /// Runs `batch` (at most `n_batch` tokens) and leaves the logits of its output tokens, in batch order.
    ///
    /// # Errors
    /// No room, a bound weight that this batch's graph uses in a way that cannot be adapted, or a failure of llama.cpp.
    /// The sequences of the batch are then to be cleared.
    pub fn decode(&mut self, batch: &[BatchToken]) -> Result<()> {
        let n = batch.len();
        let mut tokens: Vec<_> = batch.iter().map(|token| token.token).collect();
        let mut positions: Vec<_> = batch.iter().map(|token| token.position).collect();
        let mut n_seq_ids = vec![1i32; n];
        let mut sequences: Vec<_> = batch.iter().map(|token| token.sequence as i32).collect();
        let mut sequence_pointers: Vec<_> = sequences.iter_mut().map(std::ptr::from_mut).collect();
        let mut outputs: Vec<_> = batch.iter().map(|token| i8::from(token.output)).collect();
        self.n_outputs = 0;
        self.model.check_servers()?;
        let reading = self.binding.as_ref().and_then(|binding| binding.factors.reading());
        let decoded = guarded("decode", |error, error_size| {
            // SAFETY: every array has `n` elements and lives through the call; the error buffer has the stated size.
            unsafe {
                svf::svf_decode(
                    self.pointer.as_ptr(),
                    sys::llama_batch {
                        n_tokens: n as i32,
                        token: tokens.as_mut_ptr(),
                        embd: std::ptr::null_mut(),
                        pos: positions.as_mut_ptr(),
                        n_seq_id: n_seq_ids.as_mut_ptr(),
                        seq_id: sequence_pointers.as_mut_ptr(),
                        logits: outputs.as_mut_ptr(),
                    },
                    error,
                    error_size,
                )
            }
        });
        if reading.is_some() || self.model.is_remote() {
            // A device may still be at work on what was queued, and a server may be gone.
            // SAFETY: the context is alive.
            unsafe { sys::llama_synchronize(self.pointer.as_ptr()) };
        }
        drop(reading);
        self.model.check_servers()?;
        let (status, said) = decoded.map_err(|error| error.file(self.model.path()))?;
        match status {
            0 => {
                let n_outputs = batch.iter().filter(|token| token.output).count();
                // SAFETY: the context is alive.
                if n_outputs > 0 && unsafe { sys::llama_get_logits(self.pointer.as_ptr()) }.is_null() {
                    return Err(Error::engine("it computes no probabilities of words")
                        .file(self.model.path())
                        .hint("give a model that writes text, not one for embeddings"));
                }
                self.n_outputs = n_outputs;
                Ok(())
            }
            1 => {
                Err(Error::too_large(format!("no room for {n} tokens in a context of {}", self.n_ctx_seq()))
                    .hint("use a larger `n_ctx` or a shorter prompt"))
            }
            _ => Err(Error::engine(format!("llama.cpp cannot decode: {}", last_line(&said)))
                .file(self.model.path())),
        }
    }

    /// Logits `[n_vocab]` of the batch's output token number `i`, counted over output tokens only.
    ///
    /// # Panics
    /// The batch had no more than `i` output tokens.
    pub fn logits(&self, i: usize) -> &[f32] {
        assert!(i < self.n_outputs, "output {i} of {}", self.n_outputs);
        let n_vocab = self.model.llama().n_vocab() as usize;
        // SAFETY: llama.cpp keeps `n_outputs` rows of `n_vocab` logits, in batch order, until the next decode.
        unsafe {
            let all = sys::llama_get_logits(self.pointer.as_ptr());
            std::slice::from_raw_parts(all.add(i * n_vocab), n_vocab)
        }
    }

    /// Forgets what `sequence` has seen from `position` on; `false` if the memory does not hold what the next token
    /// attends to, and `sequence` must be cleared: a recurrent one cannot go back, and one with a sliding window may
    /// have dropped what the window covered then.
    ///
    /// # Errors
    /// llama.cpp failed.
    pub fn truncate(&mut self, sequence: u32, position: u32) -> Result<bool> {
        if !self.remove(sequence, position as i32)? {
            return Ok(false);
        }
        // SAFETY: model and context are alive, the sequence is in range.
        let (window, first) = unsafe {
            let memory = sys::llama_get_memory(self.pointer.as_ptr());
            // -1 where nothing is left.
            let first = sys::llama_memory_seq_pos_min(memory, sequence as i32);
            (sys::llama_model_n_swa(self.model.as_ptr()), first)
        };
        let needed = (position as i32 - window).max(0);
        Ok(window == 0 || position == 0 || (0..=needed).contains(&first))
    }

    /// Forgets what `sequence` has seen.
    ///
    /// # Errors
    /// llama.cpp failed.
    pub fn clear(&mut self, sequence: u32) -> Result<()> {
        self.remove(sequence, -1).map(|_| ())
    }

    /// Removes the tokens of `sequence` from position `begin` on, all where it is negative; `false` if this kind of
    /// memory cannot, which then keeps everything.
    fn remove(&mut self, sequence: u32, begin: i32) -> Result<bool> {
        assert!(sequence < self.n_seq_max());
        let removed = guarded("forget a sequence", |error, error_size| {
            // SAFETY: the context is alive and the sequence in range; the error buffer has the stated size.
            unsafe {
                svf::svf_remove_tokens(self.pointer.as_ptr(), sequence as i32, begin, error, error_size)
            }
        });
        Ok(removed?.0)
    }

    /// Lets the empty sequence `to` have seen what `from` has.
    ///
    /// # Errors
    /// llama.cpp failed.
    pub fn copy(&mut self, from: u32, to: u32) -> Result<()> {
        assert!(from != to && from.max(to) < self.n_seq_max());
        let copied = guarded("copy a sequence", |error, error_size| {
            // SAFETY: the context is alive and both sequences in range; the error buffer has the stated size.
            unsafe { svf::svf_copy_tokens(self.pointer.as_ptr(), from as i32, to as i32, error, error_size) }
        });
        copied.map(|_| ())
    }

    /// Forgets what all sequences have seen, and fills their memory with zeros.
    pub fn reset(&mut self) {
        // SAFETY: the context is alive.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.pointer.as_ptr()), true) };
    }

    /// Applies llama.cpp's own LoRA adapters, replacing those applied before.
    ///
    /// # Errors
    /// llama.cpp refuses one.
    ///
    /// # Panics
    /// An adapter was loaded for another model.
    pub fn set_loras(&mut self, loras: &[(Arc<Lora>, f32)]) -> Result<()> {
        assert!(loras.iter().all(|(lora, _)| Arc::ptr_eq(&lora.model, &self.model)));
        let mut pointers: Vec<_> = loras.iter().map(|(lora, _)| lora.pointer.as_ptr()).collect();
        let mut scales: Vec<_> = loras.iter().map(|(_, scale)| *scale).collect();
        let set = guarded("apply the LoRA adapter", |error, error_size| {
            // SAFETY: both arrays have the stated length, and so has the error buffer; the adapters belong to this
            // model and are kept alive.
            unsafe {
                svf::svf_set_loras(
                    self.pointer.as_ptr(),
                    pointers.as_mut_ptr(),
                    pointers.len(),
                    scales.as_mut_ptr(),
                    error,
                    error_size,
                )
            }
        });
        let new = loras.iter().map(|(lora, _)| Arc::clone(lora));
        match set {
            Ok((0, _)) => {
                self.loras = new.collect();
                Ok(())
            }
            failed => {
                // Whichever adapters the context is left with.
                self.loras.extend(new);
                Err(failed.err().unwrap_or_else(|| Error::engine("llama.cpp refuses the LoRA adapter")))
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.unbind();
        // SAFETY: made by llama.cpp for this value alone.
        unsafe { sys::llama_free(self.pointer.as_ptr()) };
    }
}

/// A LoRA adapter as llama.cpp loads it.
pub struct Lora {
    pointer: NonNull<sys::llama_adapter_lora>,
    model: Arc<ModelHandle>,
}

// SAFETY: an adapter is only read after loading.
unsafe impl Send for Lora {}
// SAFETY: as above.
unsafe impl Sync for Lora {}

impl Lora {
    /// Loads the adapter at `path` for `model`.
    ///
    /// # Errors
    /// llama.cpp cannot load it, or its path is not UTF-8.
    pub fn load(model: &Arc<ModelHandle>, path: &Path) -> Result<Arc<Self>> {
        let name = path.to_str().and_then(|name| std::ffi::CString::new(name).ok());
        let name = name.ok_or_else(|| Error::invalid("path is not UTF-8").file(path))?;
        // SAFETY: the model outlives the adapter, which keeps it alive; the name ends in NUL.
        let (pointer, said) =
            log::captured(|| unsafe { sys::llama_adapter_lora_init(model.as_ptr(), name.as_ptr()) });
        let pointer = NonNull::new(pointer).ok_or_else(|| {
            Error::engine(format!("llama.cpp cannot load the LoRA adapter: {}", last_line(&said))).file(path)
        })?;
        Ok(Arc::new(Self { pointer, model: Arc::clone(model) }))
    }
}

fn last_line(said: &str) -> &str {
    said.trim().lines().last().unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::factors::FactorSource;
    use crate::ffi::gguf::{GgufFile, GgufHeader};

    const RANK: usize = 4;

    /// Small factors of the weight `name`, all the same number, written to `path`.
    fn factors(model: &Arc<ModelHandle>, name: &str, path: &Path) -> Arc<Factors> {
        let file = GgufFile::open(model.path()).unwrap();
        let [n_in, n_out, ..] = file.require_tensor(name).unwrap().ne;
        let mut header = GgufHeader::new();
        header.add_tensor("vt", &[n_in, RANK], TensorType::F32).unwrap();
        header.add_tensor("u", &[RANK, n_out], TensorType::F32).unwrap();
        let mut bytes = header.encode();
        let n_values = (header.total_size() - bytes.len()) / size_of::<f32>();
        bytes.extend(std::iter::repeat_n(0.1f32.to_le_bytes(), n_values).flatten());
        std::fs::write(path, bytes).unwrap();
        let file = GgufFile::open(path).unwrap();
        let [vt, u] = ["vt", "u"].map(|name| file.require_tensor(name).unwrap());
        Arc::new(Factors::new(model, file.mmap(), &[FactorSource { weight: name, vt, u }]).unwrap())
    }

    /// Logits after `n` tokens of an empty sequence.
    fn logits(context: &mut Context, n: i32) -> Result<Vec<f32>> {
        context.clear(0)?;
        let token = |position| BatchToken { token: 3, position, sequence: 0, output: position + 1 == n };
        context.decode(&(0..n).map(token).collect::<Vec<_>>())?;
        Ok(context.logits(0).to_vec())
    }

    #[test]
    fn a_layer_that_cannot_be_adapted_is_an_error_of_that_decode() {
        const WEIGHT: &str = "blk.1.ffn_up.weight";
        let folder = tempfile::tempdir().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/embedded/model.gguf");
        let model = ModelHandle::load(&path, &crate::ffi::model::Offload::default()).unwrap();
        let factors = factors(&model, WEIGHT, &folder.path().join("factors.gguf"));
        let options = ContextOptions {
            n_ctx: 64,
            n_batch: 8,
            n_ubatch: 8,
            n_threads: 1,
            n_seq: 1,
            kv: TensorType::F32,
            flash_attention: false,
            kv_unified: true,
        };
        let mut context = Context::new(&model, &options).unwrap();
        let base = logits(&mut context, 2).unwrap();
        context.bind(&factors, Form::Residual, GraphOp::Fused, 1).unwrap();
        context.write_slot(0, 0, &[1.0; RANK]);
        let two = logits(&mut context, 2).unwrap();
        assert!(two != base);
        // Graphs are built where the number of tokens changes.
        let three = logits(&mut context, 3).unwrap();

        let vt = factors.weights[0].vt;
        // SAFETY: the factors are alive, and no decode is running. A graph that would read them by this type is refused.
        let ty = unsafe { std::mem::replace(&mut (*vt).type_, sys::GGML_TYPE_Q4_K) };
        for _ in 0..2 {
            let error = logits(&mut context, 2).unwrap_err().to_string();
            assert!(error.contains(WEIGHT) && error.contains("no fused operation"), "{error}");
        }
        // SAFETY: as above.
        unsafe { (*vt).type_ = ty };
        assert!(logits(&mut context, 2).unwrap() == two);
        assert!(logits(&mut context, 3).unwrap() == three);

        // A binding that fails leaves the base model.
        // SAFETY: as above.
        unsafe { (*vt).type_ = sys::GGML_TYPE_Q4_K };
        let error = context.bind(&factors, Form::Residual, GraphOp::Fused, 1).unwrap_err().to_string();
        assert!(error.contains(WEIGHT) && error.contains("no fused operation"), "{error}");
        assert!(logits(&mut context, 2).unwrap() == base);
        // SAFETY: as above.
        unsafe { (*vt).type_ = ty };
        context.bind(&factors, Form::Residual, GraphOp::Fused, 1).unwrap();
        context.write_slot(0, 0, &[1.0; RANK]);
        assert!(logits(&mut context, 2).unwrap() == two);
    }
}
