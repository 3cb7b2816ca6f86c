//! One svf_mul_mat by itself, on any device: what the kernel tests and benchmarks run.

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};
use crate::ffi::device::Device;
use crate::ffi::factors::TensorMemory;
use crate::ffi::svf;
use crate::ffi::tensor_type::TensorType;

/// Which implementation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The device's own kernel.
    Fused,
    /// Stock ggml ops.
    Composed,
    /// The plain loops with sums in double, on the CPU.
    Reference,
}

/// The op's arguments; shapes as in `kernels/svf_mul_mat.h`, fastest dimension first.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Columns of W.
    pub n_in: usize,
    /// Rows of W.
    pub n_out: usize,
    /// Singular values.
    pub rank: usize,
    /// [n_in, T].
    pub x: Vec<f32>,
    /// [n_out, T]; `None` for the factored form.
    pub base: Option<Vec<f32>>,
    /// Type and data of Vᵀ [n_in, rank].
    pub vt: (TensorType, Vec<u8>),
    /// Type and data of U [rank, n_out].
    pub u: (TensorType, Vec<u8>),
    /// [rank, n_slots].
    pub s: Vec<f32>,
    /// Slot of each token `[T]`.
    pub ids: Vec<i32>,
}

/// A graph of the op, ready to run again and again.
pub struct OpGraph {
    _tensors: TensorMemory,
    graph_context: *mut sys::ggml_context,
    allocator: sys::ggml_gallocr_t,
    backend: sys::ggml_backend_t,
    graph: *mut sys::ggml_cgraph,
    output: *mut sys::ggml_tensor,
}

impl OpGraph {
    /// A graph of `copies` independent ops on the CPU, each with factors of its own in memory.
    ///
    /// # Errors
    /// Shapes that disagree, factors of types that have no kernel, or no memory.
    pub fn new(arguments: &Arguments, kernel: Kernel, n_threads: usize, copies: usize) -> Result<Self> {
        Self::on(Device::cpu(), arguments, kernel, n_threads, copies)?
            .ok_or_else(|| Error::invalid("the CPU has no such kernel for factors of these types"))
    }

    /// The same on `device`; `None` where it does not support all of its ops.
    ///
    /// # Errors
    /// Shapes that disagree, or no memory.
    pub fn on(
        device: Device,
        arguments: &Arguments,
        kernel: Kernel,
        n_threads: usize,
        copies: usize,
    ) -> Result<Option<Self>> {
        if kernel == Kernel::Reference && device != Device::cpu() {
            return Ok(None);
        }
        let Arguments { n_in, n_out, rank, .. } = *arguments;
        let n_tokens = arguments.ids.len();
        let n_slots = arguments.s.len() / rank;
        let in_range = |&id: &i32| id >= 0 && (id as usize) < n_slots;
        if copies == 0
            || arguments.x.len() != n_in * n_tokens
            || arguments.base.as_ref().is_some_and(|base| base.len() != n_out * n_tokens)
            || arguments.vt.0.row_bytes(n_in).map(|bytes| bytes * rank) != Some(arguments.vt.1.len())
            || arguments.u.0.row_bytes(rank).map(|bytes| bytes * n_out) != Some(arguments.u.1.len())
            || arguments.s.len() != rank * n_slots
            || !arguments.ids.iter().all(in_range)
        {
            return Err(Error::invalid("arguments of svf_mul_mat whose shapes disagree"));
        }

        let mut tensors = TensorMemory::new(4 + 2 * copies)?;
        let x = tensors.tensor("x", TensorType::F32, n_in, n_tokens)?;
        let s = tensors.tensor("s", TensorType::F32, rank, n_slots)?;
        let ids = tensors.vector(c"ids", sys::GGML_TYPE_I32, n_tokens);
        let base = match &arguments.base {
            Some(_) => tensors.tensor("base", TensorType::F32, n_out, n_tokens)?,
            None => std::ptr::null_mut(),
        };
        let mut factors = Vec::with_capacity(copies);
        for _ in 0..copies {
            let vt = tensors.tensor("vt", arguments.vt.0, n_in, rank)?;
            let u = tensors.tensor("u", arguments.u.0, rank, n_out)?;
            factors.push((vt, u));
        }
        // SAFETY: every tensor was just allocated with exactly the size of the data copied into it, as
        // checked above; ggml keeps the graph's nodes in `graph_context`, freed after the allocator.
        unsafe {
            tensors.allocate(device)?;
            set(x, &arguments.x);
            set(s, &arguments.s);
            set(ids, &arguments.ids);
            if let Some(values) = &arguments.base {
                set(base, values);
            }
            let n_nodes = copies * (svf::SVF_COMPOSED_NODES as usize + 1);
            let graph_context = sys::ggml_init(sys::ggml_init_params {
                mem_size: n_nodes * sys::ggml_tensor_overhead()
                    + sys::ggml_graph_overhead_custom(2 * n_nodes + 16, false),
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            });
            let graph = sys::ggml_new_graph_custom(graph_context, 2 * n_nodes + 16, false);
            let mut output = std::ptr::null_mut();
            for (vt, u) in factors {
                set(vt, &arguments.vt.1);
                set(u, &arguments.u.1);
                output = match kernel {
                    Kernel::Composed => svf::svf_mul_mat_composed(graph_context, base, vt, u, s, ids, x),
                    Kernel::Fused | Kernel::Reference => {
                        svf::svf_mul_mat(graph_context, base, vt, u, s, ids, x)
                    }
                };
                sys::ggml_build_forward_expand(graph, output);
            }
            sys::ggml_set_output(output);
            let backend = sys::ggml_backend_dev_init(device.as_ptr(), std::ptr::null());
            let allocator = sys::ggml_gallocr_new(sys::ggml_backend_dev_buffer_type(device.as_ptr()));
            let built = Self { _tensors: tensors, graph_context, allocator, backend, graph, output };
            if backend.is_null() {
                return Err(Error::engine(format!("cannot start {}", device.name())));
            }
            let supports =
                |i| sys::ggml_backend_dev_supports_op(device.as_ptr(), sys::ggml_graph_node(graph, i));
            if !(0..sys::ggml_graph_n_nodes(graph)).all(supports) {
                return Ok(None);
            }
            if device == Device::cpu() {
                sys::ggml_backend_cpu_set_n_threads(backend, n_threads as i32);
                sys::ggml_backend_cpu_set_use_ref(backend, kernel == Kernel::Reference);
            }
            if !sys::ggml_gallocr_alloc_graph(allocator, graph) {
                return Err(Error::engine("not enough memory for the graph"));
            }
            Ok(Some(built))
        }
    }

    /// Runs every op of the graph.
    ///
    /// # Errors
    /// The device fails.
    pub fn compute(&mut self) -> Result<()> {
        // SAFETY: the graph is allocated and its inputs are set.
        let status = unsafe { sys::ggml_backend_graph_compute(self.backend, self.graph) };
        if status == sys::GGML_STATUS_SUCCESS {
            Ok(())
        } else {
            Err(Error::engine(format!("ggml cannot compute the graph (status {status})")))
        }
    }

    /// The result [n_out, T] of the last op.
    pub fn output(&self) -> Vec<f32> {
        // SAFETY: the output is F32, contiguous and kept until the next run.
        unsafe {
            let mut values = vec![0f32; sys::ggml_nelements(self.output) as usize];
            let n_bytes = size_of_val(values.as_slice());
            sys::ggml_backend_tensor_get(self.output, values.as_mut_ptr().cast(), 0, n_bytes);
            values
        }
    }
}

impl Drop for OpGraph {
    fn drop(&mut self) {
        // SAFETY: all were made for this value alone.
        unsafe {
            sys::ggml_gallocr_free(self.allocator);
            sys::ggml_backend_free(self.backend);
            sys::ggml_free(self.graph_context);
        }
    }
}

/// Copies `values` into `tensor`.
///
/// # Safety
/// The tensor must be allocated with exactly the size of `values`.
unsafe fn set<T>(tensor: *mut sys::ggml_tensor, values: &[T]) {
    // SAFETY: as the caller promises.
    unsafe { sys::ggml_backend_tensor_set(tensor, values.as_ptr().cast(), 0, size_of_val(values)) };
}
