#!/usr/bin/env bash
# Writes the packet library's public declarations to docs/packet-api.txt; `--check` compares.
#
# The listing is there so that a change of the interface shows in review: an entry that changes or
# goes away asks for a new minor version while the version is 0.x.
set -euo pipefail
cd "$(dirname "$0")/.."
list() {
  local file
  for file in $(find crates/packet/src -name '*.rs' ! -name tests.rs ! -path '*/tests/*' ! -name bytes.rs ! -name samples.rs | LC_ALL=C sort); do
    awk -v file="${file#crates/packet/src/}" '
      /#\[cfg\(test\)\]/ { exit }
      # A declaration may go on over lines, to its brace, semicolon or comma.
      going { line = line " " $0 }
      !going && /^ *pub (const fn|const|fn|struct|enum|mod|use|type|trait|static|[a-z0-9_]+:)/ { line = $0; going = 1 }
      !going && /^impl/ { owner = $0; sub(/ *\{.*/, "", owner); next }
      !going && /^pub enum|^}/ { }
      going && line ~ /[{;]|,$/ {
        going = 0; sub(/ *\{ *\.\.\..*/, "", line)
        if (line !~ /^pub use|^ *pub use/) sub(/ *\{.*$/, "", line)
        sub(/ = .*;$/, "", line); sub(/[;,]$/, "", line)
        indented = line ~ /^ /; gsub(/ +/, " ", line); sub(/^ /, "", line)
        gsub(/\( /, "(", line); gsub(/, \)/, ")", line)
        is_fn = line ~ /^pub (const )?fn/ || line ~ /^pub const/
        print file ": " (indented && is_fn && owner != "" ? owner " :: " : "") line
      }' "$file"
  done
}
case ${1:-} in
  --check) list | diff -u docs/packet-api.txt - || { echo "the interface changed: run scripts/public-api.sh" >&2; exit 1; } ;;
  *) list >docs/packet-api.txt ;;
esac
