#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes signed repositories, for apt and for dnf, of the packages in FROM, in
# the folder REPO, anew each time: every deb and rpm that is in FROM is in them.
#
#   ripstop.asc                    the public key
#   apt/dists/stable, apt/pool     InRelease and Release.gpg are signed
#   dnf/x86_64, dnf/aarch64        repodata/repomd.xml and each rpm are signed
#   ripstop.sources, ripstop.repo  for /etc/apt/sources.list.d, /etc/yum.repos.d
#
# Environment: SIGNING_KEY (a file with an OpenPGP secret key without
# passphrase; without it a key is made and thrown away, good for a try only),
# REPO_URL (where REPO will be served; this folder if it is not given).
set -euo pipefail
cd "$(dirname "$0")/.."
FROM=${FROM:-dist}
REPO=${REPO:-dist/repo}
mkdir -p "$REPO"
REPO=$(realpath "$REPO")
REPO_URL=${REPO_URL:-file://$REPO}
SUITE=stable

say() { printf '%s\n' "$*"; }
for p in gpg apt-ftparchive createrepo_c rpmsign; do
  command -v $p >/dev/null || { say "$p: not found; on Debian: apt install gpg apt-utils createrepo-c rpm" >&2; exit 1; }
done
ls "$FROM"/ripstop*.deb "$FROM"/ripstop*.rpm >/dev/null

work=$(mktemp -d)
trap 'gpgconf --homedir "$work/gnupg" --kill all; rm -rf "$work"' EXIT
export GNUPGHOME=$work/gnupg
mkdir -m 700 "$GNUPGHOME"
printf '%s\n' batch quiet no-auto-check-trustdb 'digest-algo SHA256' >"$GNUPGHOME/gpg.conf"
export GPG_TTY=${GPG_TTY:-/dev/null} # rpmsign asks for it, though nobody types
if [ -n "${SIGNING_KEY:-}" ]; then
  gpg --import "$SIGNING_KEY"
else
  say "No SIGNING_KEY: the repositories are signed with a key that is thrown away"
  # RSA: the rpm of older distributions knows no other that gpg makes.
  gpg --passphrase '' --quick-generate-key 'Ripstop test key <packages@ripstop.io>' rsa3072 sign 1y
fi
key=$(gpg --with-colons --list-secret-keys | awk -F: '$1 == "fpr" { print $10; exit }')
[ -n "$key" ] || { say "$SIGNING_KEY: no secret key in it" >&2; exit 1; }
sign() { gpg --local-user "$key" "$@"; }

new=$work/repo
mkdir -p "$new/apt/pool" "$new/dnf"
gpg --armor --export "$key" >"$new/ripstop.asc"

# apt: apt-secure(8). Acquire-By-Hash keeps a client whose Release is older
# than the packages' lists from mixing the two.
cp "$FROM"/ripstop*.deb "$new/apt/pool/"
arches=
for arch in amd64 arm64; do
  ls "$new"/apt/pool/*_$arch.deb >/dev/null 2>&1 || continue
  arches="$arches $arch"
  lists=$new/apt/dists/$SUITE/main/binary-$arch
  mkdir -p "$lists/by-hash/SHA256"
  (cd "$new/apt" && apt-ftparchive --arch $arch -o APT::FTPArchive::MD5=false -o APT::FTPArchive::SHA1=false packages pool) >"$lists/Packages"
  gzip -9nk "$lists/Packages"
  for f in "$lists/Packages" "$lists/Packages.gz"; do
    cp "$f" "$lists/by-hash/SHA256/$(sha256sum <"$f" | cut -d' ' -f1)"
  done
done
release() {
  apt-ftparchive -o APT::FTPArchive::Release::Origin=Ripstop -o APT::FTPArchive::Release::Label=Ripstop \
    -o APT::FTPArchive::Release::Suite=$SUITE -o APT::FTPArchive::Release::Codename=$SUITE \
    -o APT::FTPArchive::Release::Architectures="${arches# }" -o APT::FTPArchive::Release::Components=main \
    -o APT::FTPArchive::Release::Acquire-By-Hash=yes -o APT::FTPArchive::Release::Patterns='Packages*' \
    -o APT::FTPArchive::MD5=false -o APT::FTPArchive::SHA1=false release "$new/apt/dists/$SUITE"
}
release >"$work/Release"
mv "$work/Release" "$new/apt/dists/$SUITE/Release"
sign --clear-sign --output "$new/apt/dists/$SUITE/InRelease" "$new/apt/dists/$SUITE/Release"
sign --armor --detach-sign --output "$new/apt/dists/$SUITE/Release.gpg" "$new/apt/dists/$SUITE/Release"

# dnf: the metadata is signed (repo_gpgcheck), and each package (gpgcheck).
for arch in x86_64 aarch64; do
  ls "$FROM"/ripstop*.$arch.rpm >/dev/null 2>&1 || continue
  mkdir "$new/dnf/$arch"
  cp "$FROM"/ripstop*.$arch.rpm "$new/dnf/$arch/"
  rpmsign --define "_gpg_name $key" --define "_gpg_path $GNUPGHOME" --define "__gpg $(command -v gpg)" \
    --define '_gpg_digest_algo sha256' --addsign "$new/dnf/$arch"/*.rpm >/dev/null
  createrepo_c --quiet --no-database --general-compress-type gz "$new/dnf/$arch"
  sign --armor --detach-sign --output "$new/dnf/$arch/repodata/repomd.xml.asc" "$new/dnf/$arch/repodata/repomd.xml"
done

cat >"$new/ripstop.sources" <<END
# For /etc/apt/sources.list.d; the key, ripstop.asc, goes to /etc/apt/keyrings.
Types: deb
URIs: $REPO_URL/apt
Suites: $SUITE
Components: main
Signed-By: /etc/apt/keyrings/ripstop.asc
END
cat >"$new/ripstop.repo" <<END
# For /etc/yum.repos.d.
[ripstop]
name=Ripstop
baseurl=$REPO_URL/dnf/\$basearch
gpgkey=$REPO_URL/ripstop.asc
gpgcheck=1
repo_gpgcheck=1
END
chmod -R u=rwX,go=rX "$new"
rm -rf "$REPO"
mv "$new" "$REPO"
say "Repositories for apt and dnf are in $REPO, signed with key $key"
