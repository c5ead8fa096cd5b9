#!/bin/sh
# Put the images of a build together, and merge them into the tag stable: merge.sh ARCH...
set -eu

for arch in "$@"; do
    pubtools-mlmerge-merge --source-ref "$IMAGE:$BUILD-$arch" --dest-ref "$IMAGE:$BUILD" \
        --single-image wrap
done
pubtools-mlmerge-merge --source-ref "$IMAGE:$BUILD" --dest-ref "$IMAGE:stable" \
    --max-age-days 365 --audit records
