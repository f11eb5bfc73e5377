"""How the process lives: where it listens, what it reads again, how it drains and ends.

reload        files that are read again: keys, certificates
certificates  those of one listener, which can be read again
watching      files that are looked at once a second
sharing       ports that several processes listen on
closing       how a port is closed without losing who connects meanwhile
greeting      the line that says at start what runs
listening     where to listen, and a sentence about what cannot be listened on
warnings      what is allowed, and yet more likely a mistake
signals       what the signals do
pem           certificates and keys, as far as they must fit together
service       start, drain, stop
notify        what systemd is told of the service
"""
