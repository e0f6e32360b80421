"""The dashboard: pages that show stores, their stages and versions, served to browsers of this host.

It works over the public interface alone, and so over every backend. :mod:`.server` listens, :mod:`.guard` decides what may come
in and what goes out, :mod:`.auth` who may do what, :mod:`.stores` what is known of the stores, and each module of :mod:`.views`
makes some of the pages. Needs the extra ``dashboard``.
"""
