#!/bin/sh
# Prints which Python a side of the tests runs on, of those that can make an environment and lie on
# PATH, under pyenv or where `make servers` laid one: for `newest` the newest release from 3.11 on,
# for `oldest` the first 3.11, else the first 3.12, since the oldest libraries have no wheels for
# later ones. PYTHON names another for the newest side, PYTHON_OLDEST for the oldest one.
side=$1
case $side in
  newest) named=$PYTHON range='Python 3.11 or later' variable=PYTHON ;;
  oldest) named=$PYTHON_OLDEST range='Python 3.11 or 3.12' variable=PYTHON_OLDEST ;;
  *) exit 2 ;;
esac
[ -z "$named" ] || { command -v "$named" && exit; echo "no $named" >&2; exit 1; }

# One line: the version in digits that sort, in full for the newest, and where the program lies.
tell='import ensurepip, sys, venv
major, minor, micro, level, _ = sys.version_info
newest = sys.argv[1] == "newest"
assert (3, 11) <= (major, minor) < ((4, 0) if newest else (3, 13)) and level == "final"
micro = micro if newest else 0
print(f"{major:03}{minor:03}{micro:03} {sys.executable}")'
candidates() {
  IFS=:
  for folder in $PATH; do
    for each in "$folder/python3" "$folder"/python3.1[1-9] "$folder"/python3.[2-9][0-9]; do
      echo "$each"
    done
  done
  for each in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3 \
    "$PACKLORE_DEV"/servers/newest/python3.*/bin/python3; do
    echo "$each"
  done
}
[ "$side" = newest ] && order=-r
found=$(candidates | while read -r each; do
  [ -x "$each" ] || continue
  "$each" -c "$tell" "$side" 2> /dev/null
done | sort -s -k 1,1 $order | head -n 1)
[ -n "$found" ] || {
  echo "the $side side needs $range with its venv module (Debian: python3-venv):" \
    "set $variable to where it is" >&2
  exit 1
}
echo "${found#* }"
