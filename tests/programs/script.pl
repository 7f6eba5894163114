# What a program in Perl does: text, sorting, files, arithmetic, evaluation.
use strict;
use warnings;

my $folder = "/tmp/script.$$";
mkdir $folder or die "$folder: $!";
open my $out, ">", "$folder/words" or die $!;
print $out join(" ", map { "word$_" } reverse 1 .. 500), "\n";
close $out or die $!;

open my $in, "<", "$folder/words" or die $!;
my %length;
push @{ $length{ length $_ } }, $_ for split ' ', <$in>;
print "lengths: ", join(", ", map { "$_ has " . @{ $length{$_} } } sort keys %length), "\n";
(my $text = "the quick brown fox") =~ s/(\w+)/\u$1/g;
print "text: $text ", scalar reverse($text), "\n";
printf "arithmetic: %.15g %d %s\n", atan2(1, 1) * 4, 2**40, 1e100;
eval { die { code => 7 } };
print "died: $@->{code}\n";
open my $none, "<", "$folder/none" or print "missing: $!\n";
print "size: ", -s "$folder/words", "\n";
local $SIG{ALRM} = sub { die "alarm\n" };
eval { alarm 1; select undef, undef, undef, 60; };
print "interrupted: $@";
unlink "$folder/words";
print "removed: ", (rmdir $folder) ? "yes" : "no: $!", "\n";
exit 3;
