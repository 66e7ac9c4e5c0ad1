# gencli in a container. For a CPU, or for CUDA:
#   docker build -t gencli .
#   docker build -t gencli:cuda --build-arg TORCH=cu128 .
# Runs lie in /work, which is the folder that you mount; data files are read from /data:
#   docker run --rm -v "$PWD":/work gencli train model=maf data=moons
#   docker run --rm --gpus all -v "$PWD":/work -v /my/data:/data:ro gencli:cuda train model=glow data=mnist
FROM python:3.12-slim

ARG TORCH=cpu
# the wheel index of PyTorch: cpu, cu126, cu128 ...; everything else comes from PyPI

COPY . /src
RUN pip install --no-cache-dir --extra-index-url "https://download.pytorch.org/whl/${TORCH}" /src && rm -rf /src

ENV GENCLI_DATA=/data PYTHONUNBUFFERED=1
RUN mkdir /work /data && useradd --create-home user && chown user /work /data
USER user
WORKDIR /work
ENTRYPOINT ["gencli"]
CMD ["--help"]
