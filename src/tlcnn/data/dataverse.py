"""What a Dataverse says about the files of a dataset: their numbers and checksums.

Website: https://guides.dataverse.org/en/latest/api/native-api.html
"""

from dataclasses import replace
from urllib.parse import urlsplit

from tlcnn.data.checksum import Checksum
from tlcnn.data.download import Cut, Refused, load_json
from tlcnn.data.sources import RemoteFile, Route


def make_list_url(route: Route) -> str:
    """Return the address of the list of a route's files."""
    server = urlsplit(route.files[0].url)
    path = f"/api/datasets/:persistentId/?persistentId=doi:{route.doi}"
    return f"{server.scheme}://{server.netloc}{path}"


def load_published(files: tuple[RemoteFile, ...], list_url: str) -> tuple[RemoteFile, ...]:
    """Return the files with the numbers and MD5s that the Dataverse publishes now.

    Of a table that a Dataverse has converted, it publishes the checksum of the original, under
    the converted name (`HAM10000_metadata.tab`): names are compared without their suffix.

    Raises:
        Refused: the list does not answer, or lacks one of the files.
    """
    try:
        entries = [
            file["dataFile"] for file in load_json(list_url)["data"]["latestVersion"]["files"]
        ]
        by_stem = {_stem(entry["filename"]): entry for entry in entries}
        published = []
        for file in files:
            entry = by_stem[_stem(file.name)]
            base, mark, query = file.url.partition("?")
            url = f"{base.rpartition('/')[0]}/{int(entry['id'])}{mark}{query}"
            md5 = Checksum("md5", str(entry["md5"]).lower(), "as Dataverse publishes it now")
            published.append(replace(file, url=url, checksum=md5))
        return tuple(published)
    except Cut as cut:
        raise Refused(str(cut)) from cut
    except (KeyError, TypeError) as error:
        raise Refused(f"the list lacks {error}") from error


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0].lower()
