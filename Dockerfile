# One image for all services; the command's arguments say which of them a container runs.
# Pin it by digest: --build-arg NODE_IMAGE=node:24-slim@sha256:…
ARG NODE_IMAGE=node:24-slim
FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY packages/sagabox/package.json ./packages/sagabox/
COPY packages/create-sagabox/package.json ./packages/create-sagabox/
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY scripts ./scripts
COPY packages ./packages
COPY src ./src
# The build notes which migrations it belongs to.
COPY migrations ./migrations
RUN npm run build
# Out go the compiler, the test tools and the embedded PostgreSQL, whose programs are optional packages: a container is
# given a database by DATABASE_URL.
RUN npm prune --omit=dev --omit=optional && rm -r packages/*/src packages/sagabox/console

FROM ${NODE_IMAGE}
ENV NODE_ENV=production
WORKDIR /app
COPY package.json LICENSE ./
COPY scripts/health.mjs ./
COPY config ./config
COPY migrations ./migrations
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/packages ./packages
COPY --from=build /app/dist ./dist
# A new volume mounted there takes over whose it is.
RUN install -d -o node -g node -m 700 /keys
USER node
EXPOSE 3000
# Live, not ready: a database or broker that is away is waited for, and no reason to replace the container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "health.mjs", "live"]
CMD ["node", "--enable-source-maps", "dist/main.js"]
