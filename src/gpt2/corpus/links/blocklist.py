"""What a link may not be: the site it was found on, media, Wikipedia, a domain or subreddit on a user's list.

The paper says "outbound links" and "we removed all Wikipedia documents"; the model card adds a list of
subreddits. The rest of the lists here is ours, in plain sight. Media are what cannot hold an article: hosts
of pictures, films and sound, and addresses that end like a picture, a film, a sound, a program or an archive
(.pdf among them: the extractors read HTML). Rejected: openwebtext's list of "not scraper friendly" domains,
which holds github.com and google.com, the fourth and the first of OpenAI's published top domains of WebText;
of the hosts here seven are among those thousand (a test names them): six of pictures and films, and one mirror
of Wikipedia, which OpenAI left in. Also rejected: endings of code (.js, .css), since repositories have such names.

Domains on a list stand for all their subdomains. A list has one entry a line; `#` begins a remark.

    python -c "from gpt2.corpus.links.blocklist import *; print(under('en.m.wikipedia.org', wikipedia()))"
"""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterator
from pathlib import Path

from gpt2.corpus.documents import decode_text
from gpt2.corpus.links.address import canonical
from gpt2.errors import FormatError, InputError


def listed(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())


REDDIT = listed("reddit.com redd.it redditmedia.com redditstatic.com reddituploads.com")
"""Reddit's own hosts; sites about it (redditmetrics.com, redditgifts.com) are outbound."""

MEDIA_HOSTS = listed(
    """
    imgur.com flickr.com flic.kr staticflickr.com photobucket.com tinypic.com imageshack.us imageshack.com
    imagebam.com imgflip.com imgbox.com postimg.org postimg.cc ibb.co minus.com minus.us quickmeme.com qkme.me
    memegenerator.net livememe.com gfycat.com giphy.com gyazo.com prnt.sc sli.mg magaimg.net twimg.com twitpic.com
    yfrog.com instagram.com instagr.am deviantart.com deviantart.net 500px.com smugmug.com upload.wikimedia.org
    commons.wikimedia.org picasaweb.google.com photos.google.com ggpht.com pinimg.com
    lh3.googleusercontent.com lh4.googleusercontent.com lh5.googleusercontent.com lh6.googleusercontent.com
    youtube.com youtu.be youtube-nocookie.com ytimg.com vimeo.com dailymotion.com dai.ly liveleak.com twitch.tv
    twitchcdn.net justin.tv livestream.com streamable.com vid.me vidme.com vine.co
    metacafe.com break.com veoh.com video.google.com vidble.com bitchute.com rumble.com odysee.com tiktok.com
    soundcloud.com spotify.com bandcamp.com pandora.com itunes.apple.com
    music.apple.com podcasts.apple.com rdio.com deezer.com tidal.com
    """
)

MEDIA_ENDINGS = listed(
    """
    jpg jpeg jpe jfif png apng gif gifv webp bmp svg svgz tif tiff ico heic avif psd eps
    mp4 m4v webm mov qt avi mkv flv f4v wmv mpg mpeg mpe 3gp ogv ogm rm rmvb swf asf asx
    mp3 m4a m4b aac wma wav aif aiff flac ogg oga opus mid midi ra ram pls m3u m3u8
    pdf ps djvu epub mobi doc docx xls xlsx ppt pps pptx odt ods odp rtf
    zip rar 7z gz tgz bz2 xz zst tar iso dmg exe msi apk jar deb rpm torrent ttf otf woff woff2
    """
)

HOST = re.compile(r"\s*[a-z][a-z0-9+.-]*://(?:[^/?#]*@)?(?:\[([0-9a-f:.]*)\]|([^/:?#\[\]]*))", re.I)
NAME = re.compile(r"(?:/?r/)?([a-z0-9_][a-z0-9_.:-]*)/?", re.I)


def host_of(url: str | None) -> str:
    """The host of an address, in lower case, without port, brackets and the root's dot; "" for what is none."""
    match = HOST.match(url) if url else None
    return (match[1] or match[2]).lower().rstrip(".") if match else ""


def under(host: str, domains: Container[str]) -> bool:
    """Whether a host is one of the domains or a subdomain of one."""
    while host:
        if host in domains:
            return True
        host = host.partition(".")[2]
    return False


def is_media(url: str, host: str) -> bool:
    """Whether a canonical address on a host is of a picture, film, sound or download, by either."""
    stem, _, ending = url.partition("?")[0].rpartition("/")[2].rpartition(".")
    return (stem != "" and ending.lower() in MEDIA_ENDINGS) or under(host, MEDIA_HOSTS)


def entries(path: Path) -> Iterator[tuple[int, str]]:
    """The entries of a list and their lines, without remarks."""
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a list, one entry a line")
    for number, line in enumerate(decode_text(path.read_bytes(), path).split("\n"), 1):
        entry = line.partition("#")[0].strip()
        if entry:
            yield number, entry


def read_domains(path: Path) -> frozenset[str]:
    """The domains in a file, one a line, in the form of canonical addresses; `*.` before one means the same."""
    domains = set()
    for number, entry in entries(path):
        url = canonical(entry if "://" in entry else f"http://{entry.removeprefix('*.')}")
        if url is None or url.rstrip("/").count("/") != 2:
            raise FormatError(
                f"line {number} of {path} is no domain ({entry[:80]!r}); give one such as example.com"
            )
        domains.add(host_of(url))
    return frozenset(domains)


@functools.cache
def wikipedia() -> frozenset[str]:
    """The domains of Wikipedia and of its mirrors, as `data/wikipedia.txt` has them."""
    return read_domains(Path(__file__).parents[1] / "data" / "wikipedia.txt")


def read_subreddits(path: Path) -> frozenset[str]:
    """The subreddits in a file, one a line (name, r/name or /r/name), in lower case."""
    names = set()
    for number, entry in entries(path):
        match = NAME.fullmatch(entry)
        if match is None:
            raise FormatError(
                f"line {number} of {path} is no subreddit ({entry[:80]!r}); give a name such as pics"
            )
        names.add(match[1].lower())
    return frozenset(names)
