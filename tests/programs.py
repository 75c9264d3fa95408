"""Programs of the machine that tests run where they are there. Nobody can be made to install them: CI skips, too."""

import os
import shutil
from typing import Final

import pytest

CURL: Final = shutil.which("curl")
NGINX: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed (apt-get install curl)")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
