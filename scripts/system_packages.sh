#!/bin/sh
# Install the system packages that are missing, on Debian and Ubuntu: `python` for the virtual environment, `display`
# for Qt under a virtual screen, `browser` for the tests of report.html (they skip without one). Elsewhere, or without the right to install, say what is needed and go on.
set -eu

case "$1" in
    python) packages="python3-venv"; present() { "${PYTHON:-python3.11}" -c "import venv, ensurepip" 2>/dev/null; } ;;
    display)
        packages="xvfb xauth libegl1 libgl1 libgl1-mesa-dri libglib2.0-0 libdbus-1-3 libfontconfig1 libxkbcommon-x11-0
                  libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0
                  libxcb-shape0 libxcb-xinerama0 libxcb-xkb1"
        present() { command -v dpkg-query >/dev/null && dpkg-query -W $packages >/dev/null 2>&1; } ;;
    browser)
        packages="chromium"
        present() { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null 2>&1 ;;
    *) echo "usage: $0 python|display|browser" >&2; exit 2 ;;
esac

present && exit 0
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo -n"
if command -v apt-get >/dev/null && $sudo true 2>/dev/null; then
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $packages >/dev/null
else
    echo "these system packages may be missing, install them if the next step fails:" $packages >&2
fi
