# One image for all services: the command says which one a container runs.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --workspace --bins

FROM debian:bookworm-slim
# Roots of trust, for routes that verify certificates.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /var/lib/postrider postrider \
    && install -d -o postrider -g postrider -m 0750 /var/lib/postrider /run/postrider
COPY --from=build \
    /src/target/release/postrider \
    /src/target/release/postrider-edge \
    /src/target/release/postrider-queue \
    /src/target/release/postrider-delivery \
    /src/target/release/postrider-mailbox \
    /usr/local/bin/
USER postrider
VOLUME /var/lib/postrider
# SMTP, submission, submissions, POP3, POP3S, metrics and health.
EXPOSE 2525 2587 2465 2110 2995 8025
CMD ["postrider", "serve", "--config", "/etc/postrider/postrider.toml"]
