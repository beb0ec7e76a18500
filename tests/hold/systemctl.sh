#!/bin/sh
# A stand-in for systemctl: units are files in $STAND_IN_UNITS, named after the unit, that hold their ActiveState; UNIT.requiredby holds the
# units that go down with it. Each stop and start is told in `calls`. UNIT.stop and UNIT.start, where they are there, are run instead of
# the change of state; UNIT.properties is added to what is shown.
set -u
cd "$STAND_IN_UNITS" || exit 1
verb=$1
shift
while [ "${1#--}" != "$1" ]; do shift; done
[ "$verb" = show ] || echo "$verb $*" >> calls
for unit; do
    case $verb in
        show)
            if [ -e "$unit" ]; then
                echo "LoadState=loaded"
                echo "ActiveState=$(cat "$unit")"
            else
                echo "LoadState=not-found"
                echo "ActiveState=inactive"
            fi
            [ ! -e "$unit.requiredby" ] || echo "RequiredBy=$(cat "$unit.requiredby")"
            [ ! -e "$unit.properties" ] || cat "$unit.properties"
            ;;
        stop)
            if [ -e "$unit.stop" ]; then sh "./$unit.stop" || exit 1; continue; fi
            echo inactive > "$unit"
            for other in $(cat "$unit.requiredby" 2> /dev/null); do echo inactive > "$other"; done
            ;;
        start)
            if [ -e "$unit.start" ]; then sh "./$unit.start" || exit 1; continue; fi
            echo active > "$unit"
            ;;
    esac
done
