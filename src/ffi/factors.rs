//! The factors of a model's adapted weights as ggml tensors, in the memory of the device that holds each
//! weight: mapped from the file where the device can read host memory, copied otherwise. Those of a LoRA in training are
//! copies of the caller's numbers, which come anew with every step.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use llama_cpp_sys_2 as sys;
use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::ffi::device::Device;
use crate::ffi::gguf::TensorInfo;
use crate::ffi::model::ModelHandle;
use crate::ffi::tensor_type::TensorType;

/// ggml's CPU kernels read tensors at multiples of this address.
const ALIGNMENT: usize = 32;

/// Where the factors of one weight lie in a sidecar.
pub struct FactorSource<'a> {
    /// Name of the weight in the model.
    pub weight: &'a str,
    /// Vᵀ, ne [n_in, r].
    pub vt: &'a TensorInfo,
    /// U, ne [r, n_out].
    pub u: &'a TensorInfo,
}

/// Factors of one model, shared by all its contexts.
pub struct Factors {
    // Dropped before the mapping its tensors point into.
    memory: Vec<TensorMemory>,
    pub(super) weights: Vec<FactorTensors>,
    _map: Arc<Mmap>,
    pub(super) model: Arc<ModelHandle>,
    /// Of factors that can be rewritten: held by whoever reads or writes them.
    rewriting: Option<RwLock<()>>,
}

pub(super) struct FactorTensors {
    pub weight: *const sys::ggml_tensor,
    pub vt: *mut sys::ggml_tensor,
    pub u: *mut sys::ggml_tensor,
    pub rank: usize,
    pub device: Device,
}

// SAFETY: the tensors are written during construction and by `rewrite`, which waits until no decode reads them.
unsafe impl Send for Factors {}
// SAFETY: as above.
unsafe impl Sync for Factors {}

impl Factors {
    /// Makes the tensors of `sources`, whose data lies in `map`, for the weights of `model`.
    ///
    /// # Errors
    /// The model has no such weight, or a device has no memory for the factors.
    pub fn new(model: &Arc<ModelHandle>, map: &Arc<Mmap>, sources: &[FactorSource<'_>]) -> Result<Self> {
        Self::with(model, map, sources, None)
    }

    /// The same for factors that [`Self::rewrite`] can give other numbers, which are copied on every device.
    ///
    /// # Errors
    /// Those of [`Self::new`], or factors of another type than F32.
    pub fn rewritable(
        model: &Arc<ModelHandle>,
        map: &Arc<Mmap>,
        sources: &[FactorSource<'_>],
    ) -> Result<Self> {
        let types = sources.iter().flat_map(|source| [source.vt.ty, source.u.ty]);
        if let Some(ty) = types.into_iter().find(|&ty| ty != TensorType::F32) {
            return Err(Error::expected("factors of type f32", ty));
        }
        Self::with(model, map, sources, Some(RwLock::new(())))
    }

    fn with(
        model: &Arc<ModelHandle>,
        map: &Arc<Mmap>,
        sources: &[FactorSource<'_>],
        rewriting: Option<RwLock<()>>,
    ) -> Result<Self> {
        let mut by_device: BTreeMap<Device, Vec<(&FactorSource<'_>, *const sys::ggml_tensor)>> =
            BTreeMap::new();
        for source in sources {
            let weight = model.tensor(source.weight).ok_or_else(|| {
                Error::expected("a tensor of the loaded model", "none of that name").field(source.weight)
            })?;
            by_device.entry(Device::of(weight)).or_default().push((source, weight));
        }

        let mut factors = Self {
            memory: Vec::new(),
            weights: Vec::new(),
            _map: Arc::clone(map),
            model: Arc::clone(model),
            rewriting,
        };
        for (device, sources) in by_device {
            let mut memory = TensorMemory::new(2 * sources.len())?;
            let mut tensors = Vec::with_capacity(2 * sources.len());
            for (source, weight) in sources {
                let vt = memory.tensor(&source.vt.name, source.vt.ty, source.vt.ne[0], source.vt.ne[1])?;
                let u = memory.tensor(&source.u.name, source.u.ty, source.u.ne[0], source.u.ne[1])?;
                tensors.extend([(source.vt, vt), (source.u, u)]);
                factors.weights.push(FactorTensors { weight, vt, u, rank: source.u.ne[0], device });
            }
            if factors.rewriting.is_some() || !memory.map(device, map, &tensors)? {
                memory.allocate(device)?;
                for (info, tensor) in tensors {
                    let bytes = &map[info.offset..info.offset + info.n_bytes];
                    // SAFETY: the tensor was allocated with the shape and type whose size `info` states.
                    unsafe { sys::ggml_backend_tensor_set(tensor, bytes.as_ptr().cast(), 0, bytes.len()) };
                }
            }
            factors.memory.push(memory);
        }
        Ok(factors)
    }

    /// Gives the factors other numbers: Vᵀ `[r, n_in]` and U `[n_out, r]` of each weight, row by row, in the order of
    /// [`Self::names`]. Waits for decodes that are under way.
    ///
    /// # Panics
    /// The factors are not [rewritable](Self::rewritable), or there are other numbers of numbers.
    pub fn rewrite<'a>(&self, values: impl ExactSizeIterator<Item = [&'a [f32]; 2]>) {
        let rewriting = self.rewriting.as_ref().expect("factors that can be rewritten");
        assert_eq!(values.len(), self.weights.len());
        let _alone = rewriting.write().unwrap_or_else(PoisonError::into_inner);
        for (weight, values) in self.weights.iter().zip(values) {
            for (tensor, values) in [weight.vt, weight.u].into_iter().zip(values) {
                let n_bytes = size_of_val(values);
                // SAFETY: the tensor is alive.
                assert_eq!(n_bytes, unsafe { sys::ggml_nbytes(tensor) });
                // SAFETY: an F32 tensor of this size in memory of its own; no decode reads it, for they hold the lock.
                unsafe { sys::ggml_backend_tensor_set(tensor, values.as_ptr().cast(), 0, n_bytes) };
            }
        }
    }

    /// What a decode holds while it reads factors that can be rewritten.
    pub(super) fn reading(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.rewriting.as_ref().map(|lock| lock.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ranks of the adapted weights, in the order of the sources grouped by device.
    pub fn ranks(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.weights.iter().map(|weight| weight.rank)
    }

    /// Names of the adapted weights, in the same order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + '_ {
        self.weights.iter().map(|weight| {
            // SAFETY: the model keeps the tensor alive; ggml terminates names.
            unsafe { CStr::from_ptr((*weight.weight).name.as_ptr()) }.to_str().unwrap_or("?")
        })
    }
}

/// Some tensors and the backend buffer they live in.
pub(super) struct TensorMemory {
    context: *mut sys::ggml_context,
    buffer: sys::ggml_backend_buffer_t,
}

impl TensorMemory {
    /// Room for `n_tensors` descriptions; their data comes from [`Self::map`] or [`Self::allocate`].
    pub fn new(n_tensors: usize) -> Result<Self> {
        // SAFETY: plain arguments; ggml owns the memory it allocates for the context.
        let context = unsafe {
            sys::ggml_init(sys::ggml_init_params {
                mem_size: n_tensors * sys::ggml_tensor_overhead(),
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            })
        };
        if context.is_null() {
            return Err(Error::engine("not enough memory for tensor descriptions"));
        }
        Ok(Self { context, buffer: std::ptr::null_mut() })
    }

    /// A matrix with `ne1` rows of `ne0` elements.
    pub fn tensor(
        &mut self,
        name: &str,
        ty: TensorType,
        ne0: usize,
        ne1: usize,
    ) -> Result<*mut sys::ggml_tensor> {
        let name = CString::new(name).map_err(|_| Error::invalid("tensor name with a NUL byte"))?;
        let (Ok(ne0), Ok(ne1)) = (i64::try_from(ne0), i64::try_from(ne1)) else {
            return Err(Error::invalid("tensor too large"));
        };
        // SAFETY: the context has room for the number of tensors it was made for, and is not exceeded by
        // this module; ggml truncates long names.
        unsafe {
            let tensor = sys::ggml_new_tensor_2d(self.context, ty.id(), ne0, ne1);
            Ok(sys::ggml_set_name(tensor, name.as_ptr()))
        }
    }

    /// A vector of `n` elements of ggml's type `ty`.
    pub fn vector(&mut self, name: &CStr, ty: sys::ggml_type, n: usize) -> *mut sys::ggml_tensor {
        // SAFETY: as in `tensor`.
        unsafe { sys::ggml_set_name(sys::ggml_new_tensor_1d(self.context, ty, n as i64), name.as_ptr()) }
    }

    /// Lets `tensors` point into `map`; `false` where `device` cannot read host memory in place.
    fn map(
        &mut self,
        device: Device,
        map: &Mmap,
        tensors: &[(&TensorInfo, *mut sys::ggml_tensor)],
    ) -> Result<bool> {
        let mut properties = std::mem::MaybeUninit::<sys::ggml_backend_dev_props>::zeroed();
        // SAFETY: ggml fills the structure.
        let properties = unsafe {
            sys::ggml_backend_dev_get_props(device.as_ptr(), properties.as_mut_ptr());
            properties.assume_init()
        };
        let aligned = tensors.iter().all(|(info, _)| info.offset % ALIGNMENT == 0);
        if !properties.caps.buffer_from_host_ptr || !aligned {
            return Ok(false);
        }
        let largest = tensors.iter().map(|(info, _)| info.n_bytes).max().unwrap_or(0);
        // SAFETY: the mapping outlives the buffer (`Factors` owns both), and nothing writes to a factor that is mapped.
        self.buffer = unsafe {
            sys::ggml_backend_dev_buffer_from_host_ptr(
                device.as_ptr(),
                map.as_ptr().cast_mut().cast(),
                map.len(),
                largest,
            )
        };
        if self.buffer.is_null() {
            return Ok(false);
        }
        // SAFETY: the buffer was just made.
        unsafe { sys::ggml_backend_buffer_set_usage(self.buffer, sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS) };
        for (info, tensor) in tensors {
            let address = map[info.offset..info.offset + info.n_bytes].as_ptr().cast_mut().cast();
            // SAFETY: the tensor's bytes lie inside the buffer, at an aligned address.
            let status = unsafe { sys::ggml_backend_tensor_alloc(self.buffer, *tensor, address) };
            if status != sys::GGML_STATUS_SUCCESS {
                return Err(Error::engine("the device cannot map this tensor").field(&info.name));
            }
        }
        Ok(true)
    }

    /// Allocates all tensors on `device`.
    pub fn allocate(&mut self, device: Device) -> Result<()> {
        // SAFETY: the context holds only tensors without data; the device is one ggml gave us.
        unsafe {
            let ty = sys::ggml_backend_dev_buffer_type(device.as_ptr());
            self.buffer = sys::ggml_backend_alloc_ctx_tensors_from_buft(self.context, ty);
            if self.buffer.is_null() {
                return Err(Error::engine("not enough memory on the device for the factors")
                    .hint("use a smaller rank or fewer slots"));
            }
            sys::ggml_backend_buffer_set_usage(self.buffer, sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            sys::ggml_backend_buffer_clear(self.buffer, 0);
        }
        Ok(())
    }
}

impl Drop for TensorMemory {
    fn drop(&mut self) {
        // SAFETY: both were made by ggml for this value alone; ggml accepts a null buffer.
        unsafe {
            sys::ggml_backend_buffer_free(self.buffer);
            sys::ggml_free(self.context);
        }
    }
}
