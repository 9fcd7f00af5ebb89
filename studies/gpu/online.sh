#!/usr/bin/env bash
# PPO on one GPU, at most 8 minutes on an H100: the tests that need a device, then answers per second, where the
# time goes, memory and ratios (`studies/gpu/online.py`), whose record is kept. Run it from the project's folder, in
# an environment with `pip install -e '.[dev]'` and a torch that knows the GPU:
#
#     bash studies/gpu/online.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
PYTHON="${PYTHON:-python}"
nvidia-smi --query-gpu=name,memory.total --format=csv,noheader
timeout 90 "$PYTHON" -m pytest -q -rs tests/policy/online/test_ppo_trainer.py -k "another_device or ratios_of_1 or packed"
timeout 380 "$PYTHON" -m studies gpu --arms online --force
"$PYTHON" - <<'END'
import json

from studies import records

print(json.dumps(records.results("gpu", "online")[-1], indent=1))
END
