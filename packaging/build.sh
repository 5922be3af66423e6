#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the packages: of all KINDS, for each of ARCHES, into OUT, with their
# bills of materials and checksums. The same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-dist}
ARCHES=${ARCHES:-amd64 arm64}
KINDS=${KINDS:-deb rpm}
NFPM=${NFPM:?set NFPM to the nfpm program, as make package does}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# A tag vX.Y.Z is a release; what comes after it sorts before the next one.
PKGVERSION=${PKGVERSION:-$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null | sed 's/^v//' ||
  true)}
PKGVERSION=${PKGVERSION:-0.1.0~git$(git rev-list --count HEAD).$(git rev-parse --short=9 HEAD)}
export PKGVERSION

say() { printf '%s\n' "$*"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$OUT"

ldflags="-s -w -X github.com/ripstop/ripstop/daemon/api.Version=$PKGVERSION"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false
compile() { # arch folder
  mkdir -p "$2"
  GOOS=linux GOARCH=$1 go build -trimpath -ldflags "$ldflags" -o "$2/" ./daemon/cmd/... ./cli/ripstop
}
zip() { gzip -9n >"$1"; }

say "Ripstop $PKGVERSION"
compile "$(go env GOHOSTARCH)" "$work/host" # what can run here says --help
go build -o "$work/" ./packaging/sbom ./packaging/man
for arch in $ARCHES; do
  export ARCH=$arch STAGE=$work/$arch
  say "Building for $arch"
  compile "$arch" "$STAGE"
  # Units run one program each: the package's agent starts no server.
  sed 's/^#role: standalone$/role: agent/' etc/ripstop/ripstopd.yaml >"$STAGE/ripstopd.yaml"
  grep -q '^role: agent$' "$STAGE/ripstopd.yaml"
  mkdir -p "$STAGE/completion" "$STAGE/man1"
  "$work/host/ripstop" completion bash >"$STAGE/completion/ripstop.bash"
  "$work/host/ripstop" completion zsh >"$STAGE/completion/_ripstop"
  "$work/host/ripstop" completion fish >"$STAGE/completion/ripstop.fish"
  for p in ripstopd ripstop-server; do
    "$work/host/$p" --help | "$work/man" "$p" "$PKGVERSION" | zip "$STAGE/$p.8.gz"
  done
  "$work/man" ripstop-emergency "$PKGVERSION" <docs/how-to/emergency.md | zip "$STAGE/ripstop-emergency.7.gz"
  for page in docs/man/*.1; do zip "$STAGE/man1/$(basename "$page").gz" <"$page"; done
  zip "$STAGE/changelog.gz" <CHANGELOG.md
  { printf 'Ripstop\nCopyright 2026 the Ripstop authors\nLicense: Apache-2.0, see /usr/share/common-licenses/Apache-2.0\n'; } >"$STAGE/copyright"
  "$work/sbom" ripstop "$PKGVERSION" "$STAGE/ripstopd" "$STAGE/ripstop" >"$STAGE/ripstop.cdx.json"
  "$work/sbom" ripstop-server "$PKGVERSION" "$STAGE/ripstop-server" >"$STAGE/ripstop-server.cdx.json"
  for package in ripstop ripstop-server; do
    printf '%s (%s-1) stable; urgency=medium\n\n  * See changelog.gz.\n\n -- The Ripstop authors <packages@ripstop.io>  %s\n' \
      "$package" "$PKGVERSION" "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" | zip "$STAGE/$package.changelog.gz"
    for kind in $KINDS; do
      "$NFPM" package --config "packaging/nfpm/$package.yaml" --packager $kind --target "$OUT/" | grep -v '^using'
    done
    cp "$STAGE/$package.cdx.json" "$OUT/${package}_$arch.cdx.json"
  done
done
(cd "$OUT" && sha256sum -- ripstop* >SHA256SUMS)
say "Packages are in $OUT:"
(cd "$OUT" && ls -sh -- ripstop*)
