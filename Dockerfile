# The project on a CPU:
#
#   docker build -t 2dpass .
#   docker run --rm 2dpass predict.py --help
#
# On Linux pip's default torch brings CUDA along, some gigabytes that a CPU has no use for. PyTorch's own package index
# has wheels without it; the page "Get started" of pytorch.org names its address:
#   docker build -t 2dpass --build-arg TORCH_INDEX=<that address> .
ARG BASE=docker.io/library/python:3.11-slim-bookworm
# hadolint ignore=DL3006
FROM ${BASE}

# The compiler is for the native code, which is compiled for the CPU that it runs on, at its first use. That takes
# seconds; an image that is moved to another CPU compiles again, so nothing is compiled here.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# Requirements before sources: a change of the code does not install them again. What only tests need is left out.
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ARG TORCH_INDEX=
COPY requirements.txt /tmp/
RUN python -m venv /opt/venv \
    && sed -i '/^# Checks run by/,$d' /tmp/requirements.txt \
    && if [ -n "${TORCH_INDEX}" ]; then \
        sed -n '/^torch==/p' /tmp/requirements.txt > /tmp/torch.txt \
        && sed -i '/^triton==/d' /tmp/requirements.txt \
        && pip install --index-url "${TORCH_INDEX}" --requirement /tmp/torch.txt; fi \
    && pip install --requirement /tmp/requirements.txt \
    && rm /tmp/*.txt

# An ordinary user. A folder that is mounted has the owner it has outside: build with your own number to write there.
ARG UID=1000
RUN useradd --uid "${UID}" --create-home user
WORKDIR /2dpass
COPY main.py predict.py robust_test.py ./
COPY checkpoint checkpoint/
COPY commands commands/
COPY config config/
COPY dataloader dataloader/
COPY network network/
COPY tools tools/
COPY utils utils/
RUN mkdir -p logs dataset /home/user/.cache && chown user . logs dataset /home/user/.cache
USER ${UID}

# Caches of native code, Triton, torch and matplotlib go to the home folder, also where docker run --user names another
# user, who has none. Keep them from one container to the next with: --volume 2dpass-cache:/home/user/.cache
ENV HOME=/home/user PYTHONUNBUFFERED=1
ENTRYPOINT ["python"]
CMD ["main.py", "--help"]
