#!/usr/bin/env bash
# What Kudu runs on Azure App Service after a push, instead of its own deployment; `.deployment`
# beside this file tells it so. Both belong into the root of the app's repository.
#
# It builds the app, or takes a binary that is in the repository, and hands it to `handoff deploy`:
# that waits until the site serves it, and fails, and with it the deployment, when the build is bad.
# The site is not stopped meanwhile, and a bad build does not reach it.
#
# Settings, all of them optional (App Service passes app settings on as environment variables):
#   APP              the binary                  [app.exe in the repository, else cargo builds it]
#   HANDOFF          handoff.exe                 [the newest $HOME/handoff/*/handoff.exe]
#   HANDOFF_POINTER  as in web.config            [$HOME/site/_artifact.txt]
#   HANDOFF_WATCH    as in web.config            [$HOME/site/releases]
#   HANDOFF_STATE    as in web.config            [$HOME/site/handoff-state]
#   WAKE_URL         requested if the site sleeps [https://$WEBSITE_HOSTNAME/]
set -euo pipefail

: "${HOME:?}" "${DEPLOYMENT_SOURCE:?is set by Kudu}" "${WEBSITE_SITE_NAME:?is set by App Service}"
commit=${SCM_COMMIT_ID:?is set by Kudu}

fail() {
  echo "deploy.sh: $*" >&2
  exit 1
}

# Kudu ends a script that says nothing for a minute.
noisily() {
  local began=$SECONDS
  "$@" &
  local command=$!
  while kill -0 "$command" 2> /dev/null; do
    sleep 1
    if ((SECONDS - began >= 10)); then
      began=$SECONDS
      echo "  still at it: $1"
    fi
  done
  wait "$command"
}

newest_handoff() {
  local found=
  for exe in "$HOME"/handoff/*/handoff.exe; do
    if [ -x "$exe" ] && [[ -z $found || $exe -nt $found ]]; then
      found=$exe
    fi
  done
  printf '%s' "$found"
}

cd "$DEPLOYMENT_SOURCE"
handoff=${HANDOFF:-$(newest_handoff)}
[ -n "$handoff" ] || fail "no handoff.exe in $HOME/handoff/VERSION: put it there (see proxy/docs/iis-azure.md)"

app=${APP:-app.exe}
if [ ! -f "$app" ]; then
  if [ ! -f Cargo.toml ] || ! command -v cargo > /dev/null; then
    fail "neither $app nor a Cargo.toml and cargo are here: commit a binary, or build it in CI"
  fi
  noisily cargo build --release --target-dir "${DEPLOYMENT_TEMP:-target}"
  app=
  for built in "${DEPLOYMENT_TEMP:-target}"/release/*.exe; do
    [ -f "$built" ] && app=$built
  done
  [ -n "$app" ] || fail 'cargo built no .exe'
fi

# A change of web.config restarts the site, so only a real one is copied.
if [ -f web.config ] && [ -n "${DEPLOYMENT_TARGET:-}" ] \
  && ! cmp -s web.config "$DEPLOYMENT_TARGET/web.config"; then
  echo 'web.config has changed: the site restarts'
  cp web.config "$DEPLOYMENT_TARGET/web.config"
fi
if [ "${SCM_TOUCH_WEBCONFIG_AFTER_DEPLOYMENT:-}" != 0 ]; then
  echo 'warning: set SCM_TOUCH_WEBCONFIG_AFTER_DEPLOYMENT=0, or Kudu restarts the site after this'
fi

exec "$handoff" deploy "$app" \
  --id "$WEBSITE_SITE_NAME-${commit:0:10}" \
  --pointer "${HANDOFF_POINTER:-$HOME/site/_artifact.txt}" \
  --to "${HANDOFF_WATCH:-$HOME/site/releases}" \
  --state "${HANDOFF_STATE:-$HOME/site/handoff-state}" \
  --wake "${WAKE_URL:-https://${WEBSITE_HOSTNAME:-localhost}/}"
