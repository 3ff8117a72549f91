# docker build --tag adni-tcgm .
# The build of torch (CPU or CUDA) is that of the index that pip uses; another one:
#   docker build --build-arg PIP_TORCH_ARGS="--index-url <your index>" .
# docker run --rm --user "$(id -u)" -v BIDS_DIR:/data:ro -v OUT_DIR:/out adni-tcgm bids /data /out participant
FROM debian:bookworm-slim
ARG PIP_TORCH_ARGS=""
COPY . /source
RUN PIP_TORCH_ARGS="$PIP_TORCH_ARGS" sh /source/containers/install.sh /source && rm -rf /source
ENV MPLCONFIGDIR=/tmp/matplotlib
USER 1000
WORKDIR /home/adni
ENTRYPOINT ["adni-tcgm"]
