# Builds llama.cpp from a private, patched copy. llama.cpp's own project() call includes this file
# (CMAKE_PROJECT_INCLUDE, set in .cargo/config.toml); its sources in cargo's registry stay untouched.
#
# The patches are wiring only; every body lives in kernels/ and is added to llama.cpp's targets here.

if(NOT PROJECT_NAME STREQUAL "llama.cpp")
    return()
endif()

get_filename_component(SVF_REPOSITORY "${CMAKE_CURRENT_LIST_DIR}" DIRECTORY)
set(SVF_KERNELS "${SVF_REPOSITORY}/kernels")
set(SVF_PRISTINE "${CMAKE_CURRENT_SOURCE_DIR}")
set(SVF_COPY "${CMAKE_CURRENT_BINARY_DIR}/svf/llama.cpp")
set(SVF_STAGE "${CMAKE_CURRENT_BINARY_DIR}/svf/stage")

# --- what a feature needs -------------------------------------------------------------------------
function(svf_check_cuda)
    find_package(CUDAToolkit QUIET)
    if(NOT CUDAToolkit_FOUND)
        # cargo keeps the unfinished configuration, and would go on with it.
        message(FATAL_ERROR "llama-svf: the feature cuda needs NVIDIA's CUDA toolkit (nvcc and cuBLAS), and none was found on the "
            "PATH, below /usr/local/cuda, or where CUDAToolkit_ROOT points. Install it, from your system's packages or "
            "https://developer.nvidia.com/cuda-downloads, and run: cargo clean --release -p llama-cpp-sys-2. "
            "Or build without --features cuda.")
    endif()
endfunction()
if(GGML_CUDA)
    svf_check_cuda()
endif()

# Several machines. Sockets are all that it needs; RDMA would be another library to link.
set(GGML_RPC ON CACHE BOOL "" FORCE)
set(GGML_RPC_RDMA OFF CACHE BOOL "" FORCE)

# Left alone, CMake says much later that "native" was no architecture.
function(svf_check_cuda_architectures)
    get_target_property(wanted ggml-cuda CUDA_ARCHITECTURES)
    get_directory_property(found DIRECTORY "${SVF_COPY}/ggml/src/ggml-cuda" DEFINITION CMAKE_CUDA_ARCHITECTURES_NATIVE)
    if(wanted STREQUAL "native" AND NOT found MATCHES "^[0-9]")
        message(FATAL_ERROR "llama-svf: this machine has no NVIDIA GPU to compile for. Say which one the program will run on, in the "
            "variable CMAKE_CUDA_ARCHITECTURES: 80-real (A100), 86-real (RTX 30), 89-real (RTX 40), 90-real (H100), 120a-real (RTX 50), "
            "or several with semicolons between. First run: cargo clean --release -p llama-cpp-sys-2. Or build without --features cuda.")
    endif()
endfunction()

# --- the private copy -----------------------------------------------------------------------------
# Copied once: copying again would put the pristine files, older than the patched ones, back.
if(NOT EXISTS "${SVF_COPY}/.complete")
    foreach(folder ggml src include common vendor cmake tools/mtmd)
        get_filename_component(parent "${SVF_COPY}/${folder}" DIRECTORY)
        file(COPY "${SVF_PRISTINE}/${folder}" DESTINATION "${parent}")
    endforeach()
    file(WRITE "${SVF_COPY}/.complete" "")
endif()

# --- the patches ----------------------------------------------------------------------------------
file(GLOB SVF_PATCHES CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/*.patch")
list(SORT SVF_PATCHES)
file(GLOB_RECURSE SVF_KERNEL_FILES CONFIGURE_DEPENDS "${SVF_KERNELS}/*")
# Editing the manual there rebuilds nothing.
list(FILTER SVF_KERNEL_FILES EXCLUDE REGEX "\\.md$")
list(SORT SVF_KERNEL_FILES)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    "${CMAKE_CURRENT_LIST_FILE}" ${SVF_PATCHES} ${SVF_KERNEL_FILES})

# Patching happens in a stage that holds the touched files only, so that an unchanged result keeps its
# time stamp in the copy and is not compiled again.
file(REMOVE_RECURSE "${SVF_STAGE}")
set(SVF_TOUCHED "")
foreach(patch ${SVF_PATCHES})
    file(STRINGS "${patch}" headers REGEX "^\\+\\+\\+ b/")
    foreach(header ${headers})
        string(REGEX REPLACE "^\\+\\+\\+ b/([^\t]*).*$" "\\1" touched "${header}")
        list(APPEND SVF_TOUCHED "${touched}")
    endforeach()
endforeach()
list(REMOVE_DUPLICATES SVF_TOUCHED)
foreach(touched ${SVF_TOUCHED})
    configure_file("${SVF_PRISTINE}/${touched}" "${SVF_STAGE}/${touched}" COPYONLY)
endforeach()

find_program(SVF_GIT git)
find_program(SVF_PATCH patch)
foreach(patch ${SVF_PATCHES})
    set(applied 1)
    if(SVF_GIT)
        # The stage lies inside our own repository, where git would skip the files silently.
        get_filename_component(ceiling "${SVF_STAGE}" DIRECTORY)
        execute_process(
            COMMAND "${CMAKE_COMMAND}" -E env "GIT_CEILING_DIRECTORIES=${ceiling}" "${SVF_GIT}" apply -p1 "${patch}"
            WORKING_DIRECTORY "${SVF_STAGE}" RESULT_VARIABLE applied ERROR_VARIABLE complaint)
    endif()
    if(NOT applied EQUAL 0 AND SVF_PATCH)
        execute_process(
            COMMAND "${SVF_PATCH}" -p1 -N -i "${patch}"
            WORKING_DIRECTORY "${SVF_STAGE}" RESULT_VARIABLE applied ERROR_VARIABLE complaint)
    endif()
    if(NOT applied EQUAL 0)
        message(FATAL_ERROR "llama-svf: ${patch} does not apply to this llama.cpp (or neither git nor patch is installed). "
            "llama-cpp-sys-2 is pinned in Cargo.toml: build with the pinned version. ${complaint}")
    endif()
endforeach()
foreach(touched ${SVF_TOUCHED})
    configure_file("${SVF_STAGE}/${touched}" "${SVF_COPY}/${touched}" COPYONLY)
endforeach()

# --- the CUDA kernels -----------------------------------------------------------------------------
# ggml-cuda and ggml-hip compile every .cu file of this folder.
configure_file("${SVF_KERNELS}/cuda/svf_mul_mat_cuda.cu" "${SVF_COPY}/ggml/src/ggml-cuda/svf_mul_mat_cuda.cu" COPYONLY)

# --- the Metal kernels ----------------------------------------------------------------------------
# Each file below ggml-metal/kernels is compiled at run time, as one text: what the host shares with it goes inside.
file(READ "${SVF_KERNELS}/metal/svf_mul_mat.metal" text)
file(READ "${SVF_KERNELS}/metal/svf_mul_mat_args.h" arguments)
string(REPLACE "#include \"svf_mul_mat_args.h\"" "${arguments}" text "${text}")
file(WRITE "${SVF_STAGE}/svf_mul_mat.metal" "${text}")
configure_file("${SVF_STAGE}/svf_mul_mat.metal" "${SVF_COPY}/ggml/src/ggml-metal/kernels/svf_mul_mat.metal" COPYONLY)

# --- the proof, read by build.rs ------------------------------------------------------------------
set(digest "")
foreach(input "${CMAKE_CURRENT_LIST_FILE}" ${SVF_PATCHES} ${SVF_KERNEL_FILES})
    file(SHA256 "${input}" hash)
    file(RELATIVE_PATH name "${SVF_REPOSITORY}" "${input}")
    string(APPEND digest "${hash} ${name}\n")
endforeach()
file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/svf/stamp" "${digest}")

# --- building from the copy -----------------------------------------------------------------------
# _add_subdirectory is CMake's own command once the name is taken over.
macro(add_subdirectory folder)
    if("${CMAKE_CURRENT_SOURCE_DIR}" STREQUAL "${SVF_PRISTINE}" AND EXISTS "${SVF_COPY}/${folder}")
        _add_subdirectory("${SVF_COPY}/${folder}" "${CMAKE_CURRENT_BINARY_DIR}/${folder}" ${ARGN})
        if("${folder}" STREQUAL "ggml")
            svf_add_op()
        elseif("${folder}" STREQUAL "src")
            svf_add_hook()
        elseif("${folder}" STREQUAL "common")
            svf_add_chat()
        endif()
    else()
        _add_subdirectory(${folder} ${ARGN})
    endif()
endmacro()

function(svf_add_op)
    target_sources(ggml-base PRIVATE "${SVF_KERNELS}/svf_mul_mat.c")
    target_include_directories(ggml-base PRIVATE "${SVF_KERNELS}")
    # One target per CPU variant where GGML_CPU_ALL_VARIANTS is on, each with its own -march.
    get_property(targets DIRECTORY "${SVF_COPY}/ggml/src" PROPERTY BUILDSYSTEM_TARGETS)
    foreach(target ${targets})
        get_target_property(type ${target} TYPE)
        if(target MATCHES "^ggml-cpu" AND NOT target MATCHES "feats$" AND NOT type STREQUAL "INTERFACE_LIBRARY")
            target_sources(${target} PRIVATE "${SVF_KERNELS}/cpu/svf_mul_mat_cpu.cpp")
            target_include_directories(${target} PRIVATE "${SVF_KERNELS}")
        endif()
    endforeach()
    foreach(target ggml-cuda ggml-hip ggml-musa)
        if(TARGET ${target})
            target_include_directories(${target} PRIVATE "${SVF_KERNELS}")
        endif()
    endforeach()
    if(TARGET ggml-cuda)
        svf_check_cuda_architectures()
    endif()
    target_sources(ggml-rpc PRIVATE "${SVF_KERNELS}/rpc/svf_rpc.cpp")
    target_include_directories(ggml-rpc PRIVATE "${SVF_KERNELS}")
    if(TARGET ggml-metal)
        target_sources(ggml-metal PRIVATE "${SVF_KERNELS}/metal/svf_mul_mat_metal.cpp")
        target_include_directories(ggml-metal PRIVATE "${SVF_KERNELS}" "${SVF_COPY}/ggml/src/ggml-metal")
    endif()
endfunction()

function(svf_add_hook)
    set(sources "${SVF_KERNELS}/llama/svf_guard.cpp" "${SVF_KERNELS}/llama/svf_hook.cpp" "${SVF_KERNELS}/llama/svf_pool.cpp")
    target_sources(llama PRIVATE ${sources})
    # A unity build would merge them with llama.cpp's model files.
    set_source_files_properties(${sources} TARGET_DIRECTORY llama PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    target_include_directories(llama PRIVATE "${SVF_KERNELS}" "${SVF_KERNELS}/llama")
endfunction()

function(svf_add_chat)
    target_sources(llama-common PRIVATE "${SVF_KERNELS}/llama/svf_chat.cpp")
    target_include_directories(llama-common PRIVATE "${SVF_KERNELS}/llama")
endfunction()
