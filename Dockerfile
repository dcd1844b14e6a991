# Runs the demonstration: docker build -t aequa . && docker run --rm -v "$PWD/runs:/work/runs" aequa
# With CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 -t aequa:cuda .
#            docker run --rm --gpus all -v "$PWD/runs:/work/runs" aequa:cuda fit --config configs/digits.yaml \
#              --trainer.accelerator cuda --trainer.devices 1 --trainer.run_dir runs/demo
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
# Wheels of torch for the processor alone; the CUDA ones bring their own libraries.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" torch torchvision
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[tables,signing]" && rm -r /wheels
# `docker run --user "$(id -u)"` writes as the caller; configurations of one's own are mounted over /work/configs.
RUN useradd --create-home aequa && mkdir -p /work/runs && chown -R aequa /work
USER aequa
# Another user, whom the image does not know, has no home of its own for caches.
ENV HOME=/tmp
WORKDIR /work
COPY configs configs
ENTRYPOINT ["aequa"]
CMD ["fit", "--config", "configs/digits.yaml", "--trainer.run_dir", "runs/demo"]
