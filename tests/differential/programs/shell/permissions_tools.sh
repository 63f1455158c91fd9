# chmod symbolic modes, chown, umask, id, su-less drops by setpriv where there.
umask 027
touch f
mkdir d
stat -c '%a' f d
chmod u=rwx,g+w,o-r f
stat -c '%a' f
chmod a+x,g-w f
stat -c '%a' f
chmod 4711 f
stat -c '%a %A' f
chown 12:34 f
stat -c '%u %g %a' f
chgrp 56 f
stat -c '%u %g' f
id -u
umask
chmod -R 755 d
stat -c '%a' d
