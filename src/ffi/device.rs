//! The devices ggml can compute on: the CPU, and GPUs of the backends that are built in.

use std::ffi::{c_char, CStr};

use llama_cpp_sys_2 as sys;

/// One device, valid as long as the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device(sys::ggml_backend_dev_t);

// SAFETY: a name for something that ggml never changes nor takes back.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// Every device, in ggml's order.
    pub fn all() -> Vec<Self> {
        // SAFETY: ggml registers its devices once, and never takes one back.
        unsafe { (0..sys::ggml_backend_dev_count()).map(|i| Self(sys::ggml_backend_dev_get(i))).collect() }
    }

    /// The CPU, which every build has.
    pub fn cpu() -> Self {
        // SAFETY: as above.
        Self(unsafe { sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU) })
    }

    pub(super) fn new(pointer: sys::ggml_backend_dev_t) -> Self {
        Self(pointer)
    }

    pub(super) fn as_ptr(self) -> sys::ggml_backend_dev_t {
        self.0
    }

    /// The device that computes with `tensor`, which lies in a buffer.
    pub(super) fn of(tensor: *const sys::ggml_tensor) -> Self {
        // SAFETY: the tensor and its buffer are alive.
        let (device, is_host) = unsafe {
            let ty = sys::ggml_backend_buffer_get_type((*tensor).buffer);
            (sys::ggml_backend_buft_get_device(ty), sys::ggml_backend_buft_is_host(ty))
        };
        // Buffers in main memory may name no device, or the GPU that they are pinned for.
        if device.is_null() || is_host {
            Self::cpu()
        } else {
            Self(device)
        }
    }

    /// ggml's name, such as `CPU`, `CUDA0` or `Metal`, with the server's address where it is another machine's.
    pub fn name(self) -> String {
        // SAFETY: the device lives as long as the process; ggml terminates names.
        let (name, about) = unsafe {
            (text(sys::ggml_backend_dev_name(self.0)), text(sys::ggml_backend_dev_description(self.0)))
        };
        match self.is_remote() {
            true => format!("{name} ({about})"),
            false => name,
        }
    }

    /// Whether it is another machine's, reached by RPC.
    pub fn is_remote(self) -> bool {
        self.backend() == REMOTE
    }

    /// Name of its backend, such as `CPU`, `CUDA`, `MTL` or `Vulkan`.
    pub fn backend(self) -> String {
        // SAFETY: as above.
        text(unsafe { sys::ggml_backend_reg_name(sys::ggml_backend_dev_backend_reg(self.0)) })
    }

    /// Whether it is the CPU itself, or works on its behalf in main memory.
    pub fn is_cpu(self) -> bool {
        // SAFETY: as above.
        let ty = unsafe { sys::ggml_backend_dev_type(self.0) };
        ty == sys::GGML_BACKEND_DEVICE_TYPE_CPU || ty == sys::GGML_BACKEND_DEVICE_TYPE_ACCEL
    }
}

/// ggml's name of the backend whose devices are other machines'.
const REMOTE: &str = "RPC";

/// Names of the backends for this machine that are built in, with or without a device.
pub fn backends() -> Vec<String> {
    // SAFETY: as in `Device::all`.
    unsafe {
        (0..sys::ggml_backend_reg_count())
            .map(|i| text(sys::ggml_backend_reg_name(sys::ggml_backend_reg_get(i))))
            .filter(|name| !name.starts_with(REMOTE))
            .collect()
    }
}

fn text(name: *const c_char) -> String {
    // SAFETY: a name that ggml returned, terminated, which lives as long as the process.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}
