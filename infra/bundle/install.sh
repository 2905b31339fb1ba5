#!/bin/sh
# Installs a part of this bundle into a virtual environment of its own, without any registry. docs/how-to/air-gapped.md
#
# Everything is checked against SHA256SUMS before anything is written; with --signers, SHA256SUMS itself against its signature.
set -eu

to=/opt/fleetloop part= python=python3 signers=
say() { printf 'install: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
usage() {
  fail "usage: ./install.sh --part PART [--to FOLDER ($to)] [--python PYTHON ($python)] [--signers ALLOWED_SIGNERS]; parts:" \
    "$(cd "$(dirname "$0")/requirements" && ls | sed 's/\.txt$//' | tr '\n' ' ')"
}

while [ $# -gt 0 ]; do
  case $1 in
    --part | --to | --python | --signers)
      [ $# -ge 2 ] || usage
      case $1 in
        --part) part=$2 ;;
        --to) to=$2 ;;
        --python) python=$2 ;;
        --signers) signers=$2 ;;
      esac
      shift 2
      ;;
    *) usage ;;
  esac
done
case $to in /*) ;; *) to=$PWD/$to ;; esac
case $signers in '' | /*) ;; *) signers=$PWD/$signers ;; esac

cd "$(dirname "$0")"
case $part in '' | */* | .*) usage ;; esac
[ -f "requirements/$part.txt" ] || usage

if [ -n "$signers" ]; then
  [ -f SHA256SUMS.sig ] || fail "this bundle is not signed; nothing was installed"
  who=$(ssh-keygen -Y find-principals -f "$signers" -s SHA256SUMS.sig 2>/dev/null | head -n 1) || who=
  [ -n "$who" ] || fail "SHA256SUMS is signed by nobody whom $signers names; nothing was installed"
  ssh-keygen -q -Y verify -f "$signers" -I "$who" -n fleetloop-bundle -s SHA256SUMS.sig <SHA256SUMS >/dev/null 2>&1 ||
    fail "the signature over SHA256SUMS is not $who's; nothing was installed"
  say "signed by $who"
fi

sha256sum --check --strict --quiet SHA256SUMS >&2 ||
  fail "the files above are not what was bundled: copy the bundle again, and ask who changed it; nothing was installed"
unknown=$(find . ! -type d | sed 's|^\./||' | grep -vxF -e SHA256SUMS -e SHA256SUMS.sig -e "$(cut -c 67- SHA256SUMS)") || true
[ -z "$unknown" ] || fail "files that nobody bundled: $unknown; nothing was installed"

version=$(cat VERSION)
read -r wanted machine system <PYTHON
command -v "$python" >/dev/null || fail "there is no $python: name a Python $wanted with --python"
found=$("$python" -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.machine(), sys.platform)')
[ "$found" = "$wanted $machine $system" ] ||
  fail "these wheels are for Python $wanted on $system $machine, $python is $found; name another with --python"

[ ! -e "$to" ] || [ -L "$to" ] || fail "$to is there and is not ours: move it away, or say --to"
new=$to-$version
if [ ! -e "$new/.complete" ]; then
  rm -rf "$new"
  trap 'rm -rf "$new"' EXIT
  trap 'exit 1' HUP INT TERM
  mkdir -p "$(dirname "$to")"
  "$python" -m venv "$new" || fail "$python cannot make a virtual environment (Debian: python3-venv)"
  PIP_CONFIG_FILE=/dev/null "$new/bin/python" -m pip --isolated --disable-pip-version-check install --quiet --no-index \
    --no-deps --require-hashes --find-links wheels --requirement "requirements/$part.txt"
  "$new/bin/python" -m pip --isolated --disable-pip-version-check check >&2
  echo "$part" >"$new/.complete"
  trap - EXIT HUP INT TERM
fi
[ "$(cat "$new/.complete")" = "$part" ] || fail "$new holds the part $(cat "$new/.complete"): say another folder with --to"
# One rename: whoever starts a program by $to finds the old version or the new one.
ln -s "$(basename "$new")" "$to.new.$$"
mv -T "$to.new.$$" "$to"
say "$part $version is in $new, and $to leads there"
