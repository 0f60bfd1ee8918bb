#!/bin/sh
# Whether the containerd of this node is of the series that its configuration is written for.
# Arguments: series (auto, 1.6, 1.7, 2), version asked for (may be empty), id and version of the distribution. The same rules as in config.toml.liquid.
set -eu
wanted=$1
if [ "$wanted" = auto ]; then
  case "$2|$3 $4" in
    1.6.*) wanted=1.6 ;;
    1.7.*) wanted=1.7 ;;
    2.*) wanted=2 ;;
    "|debian 12") wanted=1.6 ;;
    *) wanted=1.7 ;;
  esac
fi
found=$(containerd --version)
found=${found#* * }
found=${found%% *}
found=${found#v}
case "$found" in
  "$wanted" | "$wanted".* | "$wanted"~* | "$wanted"-*) ;;
  *)
    echo "containerd $found is installed, and the configuration is for series $wanted: set packages.version, or series" >&2
    exit 1
    ;;
esac
