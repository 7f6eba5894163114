# What the Linux guest and the host do in a directory each; busybox' tools on both sides. Errors are part of the output.
exec 2>&1
cd "$1" || exit 1
show() { stat -c '%n %F %s %a %u %g %h' "$@"; }

echo "= what is there"
ls -ln && ls -1a
cat small
sha256sum big
tail -c 100 big | sha256sum
find . | sort

echo "= making and changing"
mkdir d && echo one > d/a && echo two >> d/a && cat d/a
ls -1a d && mv d/a d/b && ln d/b d/c && ln -s ../small d/link && cat d/link && readlink d/link
chmod 640 d/b && touch -d @1000000000 d/b && stat -c '%n %a %h %Y' d/b d/c
dd if=/dev/zero of=sparse bs=1 seek=1048576 count=1 status=none && stat -c '%s %b' sparse
truncate -s 5 small && cat small && truncate -s 7 small && od -c small
cp big copy && cmp big copy && echo "the same"
dd if=small of=copy bs=7 seek=300000 conv=notrunc status=none && sha256sum copy
mkfifo d/pipe && show d/pipe d/link d
mv d e && mv copy e/copy && mv -f e/copy big && sha256sum big
exec 3< e/b && rm e/b && cat <&3 && exec 3<&-
i=0; while [ $i -lt 300 ]; do echo $i > e/f$i; i=$((i + 1)); done
ls e | wc -l && cat e/f* | sha256sum && rm e/f1?? && ls e | wc -l
sync

echo "= what does not go"
mkdir e; rmdir e; rmdir none; cat none; mv none other; ln small small
ln -s loop loop && cat loop; cat small/x; cd big
name=$(printf '%0255d' 0); echo long > "$name" && cat "$name" && rm "$name"; echo long > "${name}0"
rm e/none

echo "= what is left"
find . | sort
show small big sparse e e/*
